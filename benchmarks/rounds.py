"""Measure two torches in turns, and say how far a ratio can be trusted."""

import contextlib
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from plan import KINDS, SHORT, Call, Kind, Row, Section

from tools.errors import ToolError


#: Rounds that are made however long they take: from fewer, no range follows.
LEAST = 6

#: A round takes the shortest time of each call from this many turns, or from as many as
#: begin within some seconds.
TURNS, SECONDS = 20, 15

#: Half the range of a ratio, as a share of it: rounds end below the first, and the
#: ratio is not claimed above the second.
SMALL, TOO_LARGE = 0.05, 0.1

#: Measures a call.
Ask: TypeAlias = Callable[[Call], float]

WORKER = Path(__file__).resolve().parent / "worker.py"


@dataclass(frozen=True)
class Measured:
    """What the rounds found for a row.

    Args:
        section (Section): the row's section.
        row (Row): what was compared.
        base (list[float]): a value for each round.
        ours (list[float]): those of the same rounds.
    """

    section: Section
    row: Row
    base: list[float]
    ours: list[float]

    @property
    def ratios(self) -> list[float]:
        """The ratio within each round, in the direction of the target."""
        if self.section.faster:
            return [base / ours for base, ours in zip(self.base, self.ours)]
        return [ours / base for base, ours in zip(self.base, self.ours)]

    @property
    def ratio(self) -> float:
        """The median of the rounds' ratios."""
        return statistics.median(self.ratios)

    @property
    def range(self) -> tuple[float, float]:
        """Where the true median is, with 95 % confidence.

        These are the ratios of two rounds: of ``n`` independent rounds, ``k`` or
        fewer lie on one side of the true median with the probability that ``n``
        tosses of a coin show ``k`` or fewer heads. This assumes no distribution.
        """
        if self.section.exact:
            return self.ratio, self.ratio
        ordered, cut, chance = sorted(self.ratios), -1, 0.0
        while True:
            chance += math.comb(len(ordered), cut + 1) / 2 ** len(ordered)
            if chance > 0.025:
                break
            cut += 1
        return (0.0, math.inf) if cut < 0 else (ordered[cut], ordered[-1 - cut])

    @property
    def spread(self) -> float:
        """Half the range, as a share of the ratio."""
        low, high = self.range
        return (high - low) / 2 / self.ratio

    @property
    def verdict(self) -> str:
        """``"met"`` or ``"missed"`` if all the range is, else ``"undecided"``."""
        low, high = self.range
        target = self.row.target
        if self.section.faster:
            met, missed = low >= target, high < target
        else:
            met, missed = high <= target, low > target
        return "met" if met else "missed" if missed else "undecided"

    @property
    def settled(self) -> bool:
        """Whether more rounds would say nothing new."""
        return self.spread <= SMALL and self.verdict != "undecided"


def measure(
    section: Section,
    rows: Sequence[Row],
    asking: Callable[[], AbstractContextManager[Ask]],
    *,
    most: int,
    until: float,
) -> list[Measured]:
    """Measure all calls of some rows once a round, until their ratios are settled.

    Other work on the machine only ever adds time, mostly in bursts; so a round takes
    several turns, and the shortest time of each call. Every other turn goes backwards,
    so that no call always comes first. Where rounds are short, each has new processes:
    where things lie in memory differs between two processes with the same code, too,
    and some are always slower.

    Args:
        section (Section): says how.
        rows (sequence of Row): what to compare.
        asking (Callable): makes what measures a call; see :func:`workers`.
        most (int): how many rounds, at most.
        until (float): the :func:`time.monotonic` after which, from
            :data:`LEAST` rounds on, no other one begins.

    Returns:
        list of Measured: one for each row.
    """
    calls = list(dict.fromkeys(call for row in rows for call in (row.base, row.ours)))
    values: dict[Call, list[float]] = {call: [] for call in calls}
    fresh = all(row.size <= SHORT for row in rows)
    with contextlib.ExitStack() as stack:
        for number in range(most):
            if fresh or number == 0:
                stack.close()
                ask = stack.enter_context(asking())
            for call, value in _shortest(calls, ask, 1 if section.exact else TURNS):
                parameters = call.size if section.per_parameter else 1
                values[call].append(value / parameters)
            found = [
                Measured(section, row, values[row.base], values[row.ours])
                for row in rows
            ]
            late = time.monotonic() > until or all(one.settled for one in found)
            if section.exact or (number + 1 >= LEAST and late):
                break
    return found


def _shortest(
    calls: Sequence[Call], ask: Ask, most: int
) -> Iterable[tuple[Call, float]]:
    """The shortest time of each call, in turns."""
    shortest = dict.fromkeys(calls, math.inf)
    until = time.monotonic() + SECONDS
    for turn in range(most):
        for call in calls[:: -1 if turn % 2 else 1]:
            shortest[call] = min(shortest[call], ask(call))
        if time.monotonic() > until:
            break
    return shortest.items()


@contextlib.contextmanager
def workers(environments: Mapping[Kind, Mapping[str, str]]) -> Iterator[Ask]:
    """Start a worker process for each torch, and stop them at the end.

    Args:
        environments (Mapping): environment variables of each kind.

    Yields:
        Callable: measures a call in the worker of its kind.

    Raises:
        ToolError: if a worker imports another torch, or ends early. What it
            printed says why.
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

        def answer(kind: Kind, doing: str) -> str:
            stream = processes[kind].stdout
            assert stream is not None
            line = stream.readline()
            if not line:
                raise ToolError(
                    f"The worker with the {kind} torch ended, {doing}. If it printed "
                    "nothing, it may have had too little memory; --largest takes a "
                    "smaller size."
                )
            return line

        def ask(call: Call) -> float:
            stream = processes[call.kind].stdin
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.write(json.dumps([call.workload, call.size, call.enough]) + "\n")
                stream.flush()
            return float(answer(call.kind, f"at '{call.workload}', {call.size:,}"))

        try:
            for kind in KINDS:
                found = json.loads(answer(kind, "importing it"))
                if found != kind:
                    raise ToolError(
                        f"The {kind} worker imports a {found} torch. Remove build/bench "
                        "and run this again."
                    )
            yield ask
        except BaseException:
            # They may be in the middle of a long call.
            for process in processes.values():
                process.kill()
            raise
