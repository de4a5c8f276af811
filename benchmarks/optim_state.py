"""What parameter names cost and save: optimizers with the series, beside stock.

Run ``python benchmarks/optim_state.py``. It makes both torches over the installed
one, measures them in turns in one run, prints a table, and says for each target
whether it is met. ``--refresh`` writes what ``benchmarks/results/`` holds, and the
figures in the README.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import environments
import plan
import readme
import report
import rounds
import step_instructions
import targets
from environments import KINDS, Kind

from tools import files
from tools.errors import ToolError


RESULTS = Path(__file__).resolve().parent / "results"

#: What a run has measured so far; ``--resume`` goes on from there.
UNFINISHED = environments.WORK / "unfinished.json"

#: What is to be measured: a text that says so, and what measures it.
Step: TypeAlias = tuple[str, Callable[[], None]]


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory": _memory(),
        "platform": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line for line in lines if line.startswith("model name")]
    return names[0].partition(":")[2].strip() if names else platform.processor()


def _memory() -> str:
    try:
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return "unknown"
    return f"{pages / 2**30:.0f} GiB"


class Run:
    """The figures of a run, and what it still has to measure.

    Args:
        options (Namespace): from the command line.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.figures: list[rounds.Figure] = []
        self.found: dict[str, Any] = {
            "machine": machine(),
            "series": environments.series_id(),
            "rounds": options.rounds,
            "largest": options.largest,
            "only": options.only,
            "torch": {},
            "left_out": {},
            "memory": {},
            "files": {},
            "imports": {},
            "instructions": {},
            "done": [],
        }
        self._start = time.monotonic()

    def resume(self) -> None:
        """Take over what an unfinished run has measured.

        Raises:
            ToolError: if there is none, or it was another one.
        """
        try:
            before = json.loads(UNFINISHED.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ToolError(f"There is no unfinished run in {UNFINISHED}.") from error
        for key in ("series", "rounds", "largest", "only"):
            if before[key] != self.found[key]:
                raise ToolError(
                    f"The unfinished run has {key} {before[key]}, not "
                    f"{self.found[key]}; start anew, without --resume."
                )
        self.figures = figures_of(before)
        del before["figures"]
        self.found = before

    def measure(self) -> None:
        """Measure what is left, and write what there is after each step.

        Raises:
            ToolError: if the environments cannot be made, or a worker ends.
        """
        by_kind = environments.make()
        with contextlib.ExitStack() as stack:
            ask = stack.enter_context(rounds.workers(by_kind))
            self._check(ask)
            steps = list(self._steps(ask, by_kind))
            for number, (text, step) in enumerate(steps, 1):
                if text in self.found["done"]:
                    continue
                start = time.monotonic()
                step()
                self.found["done"].append(text)
                files.replace({UNFINISHED: self.as_json().encode()})
                now = time.monotonic()
                print(
                    f"[{number}/{len(steps)}] {text}: {now - start:.0f} s "
                    f"({(now - self._start) / 60:.1f} min)",
                    file=sys.stderr,
                    flush=True,
                )
        self.figures.sort(key=lambda f: (_rank(f.contest), f.size))

    def _check(self, ask: rounds.Ask) -> None:
        versions = {kind: ask(kind, do="version") for kind in KINDS}
        if [versions[kind].pop("patched") for kind in KINDS] != [False, True]:
            raise ToolError(
                f"The two torches are not what they should be: {versions}. Remove "
                f"{environments.WORK} and run this again."
            )
        self.found["torch"] = {kind: versions[kind]["torch"] for kind in KINDS}

    def _steps(
        self, ask: rounds.Ask, by_kind: Mapping[Kind, Mapping[str, str]]
    ) -> Iterator[Step]:
        only, largest = self.options.only, self.options.largest
        contests = [c for c in plan.CONTESTS if not only or c.key in only]
        # By size: each worker keeps the parameters of one size.
        for size, number in sorted(
            (size, number) for number, c in enumerate(contests) for size in c.sizes
        ):
            if size <= largest:
                contest = contests[number]
                yield (
                    f"{contest.key} at {size:,}",
                    lambda contest=contest, size=size: self._contest(  # type: ignore[misc]
                        ask, contest, size
                    ),
                )
        if only:
            return
        for kind in reversed(KINDS):
            for workload, size in reversed(plan.MEMORY[kind]):
                if size <= largest:
                    yield (
                        f"memory of {workload} at {size:,}, {kind}",
                        lambda kind=kind, workload=workload, size=size: (  # type: ignore[misc]
                            self._memory(ask, kind, workload, size)
                        ),
                    )
        for size in plan.FILES:
            if size <= largest:
                yield (
                    f"files at {size:,}",
                    lambda size=size: self._files(ask, size),  # type: ignore[misc]
                )
        yield "import torch", lambda: self._imports(by_kind)
        if self.options.instructions:
            yield "instructions of steps", self._instructions

    def _contest(self, ask: rounds.Ask, contest: plan.Contest, size: int) -> None:
        number = self.options.rounds
        late = time.monotonic() - self._start > self.options.minutes * 60
        measured, missing = rounds.run(
            contest,
            size,
            ask,
            rounds=min(rounds.LEAST if late else number, number),
            patience=self.options.patience,
            min_run_time=self.options.min_run_time,
        )
        self.figures += measured
        notes = self.found["left_out"].setdefault(contest.key, [])
        notes.extend(note for note in missing if note not in notes)

    def _memory(self, ask: rounds.Ask, kind: Kind, workload: str, size: int) -> None:
        answer = ask(kind, do="memory", size=size, workload=workload)
        self.found["memory"].setdefault(kind, {})[f"{workload} {size}"] = answer

    def _files(self, ask: rounds.Ask, size: int) -> None:
        stock, patched = (ask(kind, do="files", size=size) for kind in KINDS)
        self.found["files"][str(size)] = {
            "name": patched["name"],
            "indexed": patched["unnamed"] / size,
            "stock": stock["named"] / size,
            "patched": patched["named"] / size,
            "stock_names": (stock["named"] - stock["unnamed"]) / size,
            "patched_names": (patched["named"] - patched["unnamed"]) / size,
        }

    def _imports(self, by_kind: Mapping[Kind, Mapping[str, str]]) -> None:
        number = max(3, self.options.rounds * 2)
        self.found["imports"] = dict(rounds.import_times(by_kind, number))

    def _instructions(self) -> None:
        problem = step_instructions.missing()
        self.found["instructions"] = (
            {"missing": problem} if problem else step_instructions.measure()
        )

    def as_dict(self) -> dict[str, Any]:
        """All that is known, as plain values."""
        return {**self.found, "figures": [figure.as_json() for figure in self.figures]}

    def as_json(self) -> str:
        """The same as JSON, rounded."""
        return json.dumps(_rounded(self.as_dict()), indent=1) + "\n"


def figures_of(run: Mapping[str, Any]) -> list[rounds.Figure]:
    """The figures of a run that was read from a file."""
    keys = ("contest", "label", "size", "seconds", "speedups")
    return [rounds.Figure(*(figure[key] for key in keys)) for figure in run["figures"]]


def _rank(key: str) -> int:
    return [contest.key for contest in plan.CONTESTS].index(key)


def _rounded(value: Any) -> Any:
    """The same with four digits: more would be noise, and a larger file."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return list(map(_rounded, value)) if isinstance(value, list) else value


def verdicts_of(run: Mapping[str, Any]) -> list[targets.Verdict]:
    """What the figures of a run say about the targets."""
    return targets.verdicts(
        figures_of(run),
        run["memory"].get("patched", {}),
        run["imports"],
        run["instructions"],
    )


def text_of(run: Mapping[str, Any]) -> str:
    """The report of a run, in Markdown.

    Args:
        run (Mapping): from :meth:`Run.as_dict`, or from a file of results.

    Returns:
        str: the targets and all tables.
    """
    figures = figures_of(run)
    measured = [
        contest
        for contest in plan.CONTESTS
        if any(f.contest == contest.key for f in figures)
    ]
    verdicts = [v for v in verdicts_of(run) if v.met is not None or not run["only"]]
    parts = [
        "## Optimizers with the series, beside stock",
        ", ".join(f"{key}: {value}" for key, value in run["machine"].items()),
        f"torch {run['torch']['stock']} without and with the series of "
        f"{run['series']}; one thread, garbage collection on; up to "
        f"{run['rounds']} rounds, stock and patched in turns.",
        report.verdict_table(verdicts),
        report.LEGEND,
        *(report.contest_table(contest, figures) for contest in measured),
    ]
    if run["memory"]:
        parts.append(report.memory_table(run["memory"]))
    if run["files"]:
        parts.append(report.files_table(run["files"]))
    if run["instructions"] and "missing" not in run["instructions"]:
        parts.append(step_instructions.text_of(run["instructions"]))
    if run["imports"]:
        parts.append(report.imports_text(run["imports"]))
    notes = [f"{note} ({key})" for key, n in run["left_out"].items() for note in n]
    if notes:
        parts.append("Left out: " + "; ".join(notes) + ".")
    return "\n\n".join(parts) + "\n"


def draw(run: Mapping[str, Any], folder: Path) -> None:
    """Draw the contests that have a plot.

    Args:
        run (Mapping): as for :func:`text_of`.
        folder (Path): where the PNG files go.
    """
    import plots

    folder.mkdir(parents=True, exist_ok=True)
    figures = figures_of(run)
    for contest in plan.CONTESTS:
        if contest.plotted and any(f.contest == contest.key for f in figures):
            plots.draw(contest, figures, folder / f"{contest.key}.png")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    keys = [contest.key for contest in plan.CONTESTS]
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, two rounds")
    parser.add_argument(
        "--refresh",
        action="store_true",
        help="write all of benchmarks/results/ and the figures in README.md",
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on where the last run was stopped"
    )
    parser.add_argument(
        "--rewrite",
        action="store_true",
        help="measure nothing, and write all of it again from the committed figures",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    parser.add_argument(
        "--plots", type=Path, metavar="FOLDER", help="draw them (needs matplotlib)"
    )
    parser.add_argument(
        "--only", nargs="+", choices=keys, metavar="CONTEST", help=", ".join(keys)
    )
    parser.add_argument("--rounds", type=int, default=7, metavar="N")
    parser.add_argument(
        "--largest", type=int, default=plan.SIZES[-1], metavar="SIZE", help="parameters"
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=12,
        metavar="N",
        help=f"after them, {rounds.LEAST} rounds are enough for all that is left",
    )
    parser.add_argument(
        "--instructions",
        action="store_true",
        help="count the instructions of steps, too (needs valgrind)",
    )
    options = parser.parse_args(arguments)
    options.patience, options.min_run_time = 8.0, 0.05
    if options.quick:
        options.rounds = min(options.rounds, 2)
        options.largest = min(options.largest, 1_000)
        options.min_run_time = 0.02
    if options.rounds < 1 or options.largest < plan.SIZES[0]:
        parser.error(f"--rounds must be at least 1, and --largest {plan.SIZES[0]}")
    if options.refresh or options.rewrite:
        if options.only or options.quick or options.largest < plan.SIZES[-1]:
            parser.error("--refresh measures everything; leave the other options out")
        options.instructions = True
        options.json, options.plots = RESULTS / "optim_state.json", RESULTS
    if options.plots and importlib.util.find_spec("matplotlib") is None:
        parser.error("the package 'matplotlib' is missing; install it with pip")
    return options


def _measured(options: argparse.Namespace) -> dict[str, Any]:
    """The figures, measured or read."""
    if options.rewrite:
        try:
            return dict(json.loads(options.json.read_text(encoding="utf-8")))
        except OSError as error:
            raise ToolError(f"{options.json} cannot be read: {error}.") from error
    run = Run(options)
    if options.resume:
        run.resume()
    try:
        run.measure()
    except (ToolError, KeyboardInterrupt):
        if run.found["done"]:
            print(
                f"What was measured is in {UNFINISHED}; --resume goes on from there.",
                file=sys.stderr,
            )
        raise
    return dict(json.loads(run.as_json()))


def main() -> int:
    """Measure, print, and write what is asked for.

    Returns:
        int: the exit status: 1 if a target is missed or nothing can be measured.
    """
    options = parse()
    try:
        run = _measured(options)
        text = text_of(run)
        print(text)
        if options.json:
            options.json.parent.mkdir(parents=True, exist_ok=True)
            written = {options.json: (json.dumps(run, indent=1) + "\n").encode()}
            if options.refresh or options.rewrite:
                written[RESULTS / "optim_state.md"] = text.encode()
                written.update(readme.written(run, figures_of(run), verdicts_of(run)))
            files.replace(written)
    except ToolError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if options.plots:
        draw(run, options.plots)
    return 1 if any(verdict.met is False for verdict in verdicts_of(run)) else 0


if __name__ == "__main__":
    sys.exit(main())
