"""What parameter names cost and save: optimizers with the series, beside stock.

Run ``python benchmarks/optim_state.py``. It makes both torches over the installed
one, measures them in turns, and prints each ratio and whether its target is met.
``--refresh`` writes the figures to ``benchmarks/results/`` and to the README files.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import re
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any


sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import environments
import instructions
import report
import rounds
import wheel_build
from plan import SECTIONS, Kind, Row, Section

from tools import files
from tools.errors import ToolError


RESULTS = Path(__file__).resolve().parent / "results" / "optim_state.json"

#: What a run has measured so far; ``--resume`` goes on from there.
UNFINISHED = environments.WORK / "unfinished.json"


def machine() -> str:
    """What the figures depend on, in one line."""
    cpuinfo = files.content(Path("/proc/cpuinfo")) or b""
    found = re.search(r"^model name\s*: (.*)$", cpuinfo.decode(), re.MULTILINE)
    return (
        f"{found[1] if found else platform.processor()}, {os.cpu_count()} cores, "
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    )


def new_run() -> dict[str, Any]:
    """A run that has measured nothing yet."""
    return {
        "machine": machine(),
        "torch": importlib.metadata.version("torch").partition("+")[0],
        "series": environments.series_id(),
        "results": {},
        "missing": {},
    }


def unfinished_run() -> dict[str, Any]:
    """The last run.

    Raises:
        ToolError: if there is none, or it measured another series.
    """
    try:
        run: dict[str, Any] = json.loads(UNFINISHED.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ToolError(f"There is no unfinished run in {UNFINISHED}.") from error
    if run["series"] != environments.series_id():
        raise ToolError(
            f"The unfinished run measured series {run['series']}; start anew, without "
            "--resume."
        )
    return run


def measure(run: dict[str, Any], options: argparse.Namespace) -> None:
    """Measure what a run lacks; all of it is kept after each group of rows.

    Args:
        run (dict): is added to.
        options (Namespace): from the command line.

    Raises:
        ToolError: if the two torches cannot be made, or a worker ends.
    """
    start = time.monotonic()
    by_kind = environments.make()
    todo = [
        (section, rows)
        for section in SECTIONS
        if not options.only or section.key in options.only
        for rows in section.groups(options.largest)
        if not all(row.what in run["results"].get(section.key, {}) for row in rows)
    ]
    for number, (section, rows) in enumerate(todo, 1):
        began = time.monotonic()
        text = f"[{number}/{len(todo)}] {section.title}: {len(rows)} rows, "
        print(text, end="", file=sys.stderr, flush=True)
        # What is left of the time is shared by what is left to do.
        left = start + options.minutes * 60 - began
        until = began + left / (len(todo) - number + 1)
        try:
            found = _measured(section, rows, by_kind, options.rounds, until)
        except ToolError as error:
            if section.key not in _NEEDED:
                raise
            run["missing"][section.key] = str(error)
            print("not measured", file=sys.stderr)
            continue
        run["missing"].pop(section.key, None)
        run["results"].setdefault(section.key, {}).update(
            (one.row.what, {"base": _short(one.base), "ours": _short(one.ours)})
            for one in found
        )
        files.replace({UNFINISHED: _as_json(run)})
        now = time.monotonic()
        print(
            f"{now - began:.0f} s ({(now - start) / 60:.1f} min)",
            file=sys.stderr,
        )


#: What sections cannot do without: valgrind, and an official wheel.
_NEEDED = ("step", "wheel")


def _measured(
    section: Section,
    rows: list[Row],
    by_kind: dict[Kind, dict[str, str]],
    most: int,
    until: float,
) -> list[rounds.Measured]:
    def asking() -> AbstractContextManager[rounds.Ask]:
        return rounds.workers(by_kind) if ask is None else nullcontext(ask)

    ask: rounds.Ask | None = None
    if section.key == "step":
        ask = instructions.count(by_kind).__getitem__
    elif section.key == "wheel":
        ask = wheel_build.ask()
    return rounds.measure(section, rows, asking, most=most, until=until)


def _short(values: list[float]) -> list[float]:
    """Five digits: more would be noise, and a larger file."""
    return [float(f"{value:.5g}") for value in values]


def _as_json(run: dict[str, Any]) -> bytes:
    return (json.dumps(run, indent=1) + "\n").encode()


def parse() -> argparse.Namespace:
    """Read the command line."""
    keys = [section.key for section in SECTIONS]
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--only", nargs="+", choices=keys, metavar="WHAT", help=", ".join(keys)
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=50,
        metavar="N",
        help=f"at most; from fewer than {rounds.LEAST}, nothing is concluded",
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=15,
        metavar="M",
        help=f"after them, {rounds.LEAST} rounds are enough for what is left",
    )
    parser.add_argument(
        "--largest",
        type=int,
        default=10**6,
        metavar="N",
        help="leave out what has more parameters",
    )
    parser.add_argument(
        "--refresh",
        action="store_true",
        help="write benchmarks/results/ and the figures in the README files",
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on where the last run was stopped"
    )
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    if options.refresh and (options.only or options.largest < 10**6):
        parser.error("--refresh takes all figures; leave --only and --largest out")
    return options


def main() -> int:
    """Measure, print, and write what is asked for.

    Returns:
        int: the exit status: 1 if a target is not met or nothing can be measured.
    """
    options = parse()
    try:
        run = unfinished_run() if options.resume else new_run()
        measure(run, options)
        print(report.tables(run))
        if options.refresh:
            files.replace({RESULTS: _as_json(run), **report.written(run)})
    except ToolError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped; --resume goes on from here.", file=sys.stderr)
        return 130
    return 0 if all(one.verdict == "met" for one in report.measured(run)) else 1


if __name__ == "__main__":
    sys.exit(main())
