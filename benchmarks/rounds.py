"""Measure two torches in turns, and say how far the figures can be trusted."""

import contextlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from environments import KINDS, Kind
from plan import Contest

from tools.errors import ToolError


#: Rounds that are made however long they take. The median of two is a mean, which one
#: disturbance changes.
LEAST = 3

WORKER = Path(__file__).resolve().parent / "worker.py"

#: Does a request in the worker of a kind; see ``worker.py``.
Ask: TypeAlias = Callable[..., dict[str, Any]]


@dataclass(frozen=True)
class Figure:
    """One measured quantity, once a round."""

    #: A contest's key, an entry's label, and the number of parameters.
    contest: str
    label: str
    size: int
    #: One for each round, from the first on.
    seconds: list[float]
    #: How many times faster it was than what it is compared with, in the same
    #: round; one for each round in which both were measured.
    speedups: list[float]

    @property
    def median(self) -> float:
        """The median time, in seconds."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """The interquartile range as a share of the median."""
        return interquartile_range(self.seconds) / self.median

    @property
    def speedup(self) -> float | None:
        """The median of the rounds' speedups."""
        return statistics.median(self.speedups) if self.speedups else None

    def as_json(self) -> dict[str, Any]:
        """What is written to a file of results."""
        summary = {
            "median": self.median,
            "spread": self.spread,
            "speedup": self.speedup,
        }
        return {**asdict(self), **summary}


def interquartile_range(values: list[float]) -> float:
    """The difference between the upper and the lower quartile.

    Args:
        values (list[float]): any number of them.

    Returns:
        float: of the values' unit; 0 for a single value.
    """
    if len(values) < 2:
        return 0.0
    lower, _, upper = statistics.quantiles(values, n=4, method="inclusive")
    return upper - lower


@contextlib.contextmanager
def workers(environments: Mapping[Kind, Mapping[str, str]]) -> Iterator[Ask]:
    """Start a worker process for each environment, and stop them at the end.

    Args:
        environments (Mapping): environment variables of each kind.

    Yields:
        Callable: takes a kind and a request as keyword arguments, and returns
        the worker's answer.

    Raises:
        ToolError: if a worker ends early. What it printed says why.
    """
    with contextlib.ExitStack() as stack:
        processes = {
            kind: stack.enter_context(
                subprocess.Popen(
                    [sys.executable, str(WORKER)],
                    env=dict(environments[kind]),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    encoding="utf-8",
                )
            )
            for kind in KINDS
        }

        def ask(kind: Kind, **request: Any) -> dict[str, Any]:
            process = processes[kind]
            assert process.stdin is not None and process.stdout is not None
            try:
                process.stdin.write(json.dumps(request) + "\n")
                process.stdin.flush()
                answer = process.stdout.readline()
            except BrokenPipeError:
                answer = ""
            if not answer:
                raise ToolError(
                    f"The worker with the {kind} torch ended while it did {request}. "
                    "If it printed nothing, it may have had too little memory; "
                    "--largest takes a smaller size."
                )
            return json.loads(answer)  # type: ignore[no-any-return]

        try:
            yield ask
        except BaseException:
            # They may be in the middle of a long call.
            for process in processes.values():
                process.kill()
            raise


def run(
    contest: Contest,
    size: int,
    ask: Ask,
    *,
    rounds: int,
    patience: float,
    min_run_time: float,
) -> tuple[list[Figure], list[str]]:
    """Measure the entries of a contest in turns at one size.

    Every other round goes backwards, so that no entry always comes first.

    Args:
        contest (Contest): what to measure.
        size (int): the number of parameters.
        ask (Callable): from :func:`workers`.
        rounds (int): how many rounds, at most.
        patience (float): seconds after which an entry that has been measured
            :data:`LEAST` times is done. The contest ends after four times as many.
        min_run_time (float): seconds for each entry in each round.

    Returns:
        tuple[list[Figure], list[str]]: the figures, and what was left out, with
        the reason.
    """
    entries = [entry for entry in contest.entries if size <= entry.largest]
    left_out = [
        f"{entry.label} at {size:,}: a call takes many seconds"
        for entry in contest.entries
        if entry not in entries
    ]
    seconds: dict[str, list[float]] = {}
    spent: dict[str, float] = {}
    for number in range(rounds):
        if number >= LEAST and sum(spent.values()) > 4 * patience:
            break
        for entry in entries[:: -1 if number % 2 else 1]:
            if number >= LEAST and spent[entry.label] > patience:
                continue
            start = time.monotonic()
            answer = ask(
                entry.kind,
                do="time",
                size=size,
                workload=entry.workload,
                min_run_time=min_run_time,
            )
            spent[entry.label] = spent.get(entry.label, 0) + time.monotonic() - start
            if "unavailable" in answer:
                left_out.append(f"{entry.label}: {answer['unavailable']}")
            else:
                seconds.setdefault(entry.label, []).append(answer["seconds"])
    figures = []
    for entry in entries:
        own = seconds.get(entry.label, [])
        others = seconds.get(entry.against or "", [])
        if own:
            speedups = [other / mine for other, mine in zip(others, own)]
            figures.append(Figure(contest.key, entry.label, size, own, speedups))
    return figures, list(dict.fromkeys(left_out))


def import_times(
    environments: Mapping[Kind, Mapping[str, str]], rounds: int
) -> dict[Kind, list[float]]:
    """Processor seconds of ``import torch``, each time in a new process.

    Args:
        environments (Mapping): environment variables of each kind.
        rounds (int): how many times, alternating. One more is not counted.

    Returns:
        dict[str, list[float]]: the times of each kind.
    """
    code = (
        "import time; start = time.process_time(); import torch; "
        "print(time.process_time() - start)"
    )
    seconds: dict[Kind, list[float]] = {kind: [] for kind in KINDS}
    for number in range(rounds + 1):
        for kind in KINDS[:: -1 if number % 2 else 1]:
            printed = subprocess.run(
                [sys.executable, "-c", code],
                env=dict(environments[kind]),
                stdout=subprocess.PIPE,
                encoding="utf-8",
                check=True,
            ).stdout
            if number > 0:  # the first one may write bytecode
                seconds[kind].append(float(printed))
    return seconds
