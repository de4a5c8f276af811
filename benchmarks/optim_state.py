"""What parameter names cost and save: optimizers with the series, beside stock.

Run ``python benchmarks/optim_state.py``. It makes both torches over the installed
one, measures them in turns in one run, prints a table, and says for each target
whether it is met. ``--refresh`` writes what ``benchmarks/results/`` holds.
"""

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import environments
import plan
import report
import rounds
import targets
from environments import KINDS, Kind

from tools import files
from tools.errors import ToolError


RESULTS = Path(__file__).resolve().parent / "results"
INSTRUCTIONS = Path(__file__).resolve().parent / "step_instructions.py"


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
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


def measure(
    by_kind: Mapping[Kind, Mapping[str, str]], options: argparse.Namespace
) -> dict[str, Any]:
    """Measure everything.

    Args:
        by_kind (Mapping): environment variables of each kind.
        options (Namespace): from the command line.

    Returns:
        dict: the figures of all contests, and all else that the report shows.
    """
    figures: list[rounds.Figure] = []
    left_out: dict[str, list[str]] = {}
    memory: dict[str, dict[str, Any]] = {}
    sizes: dict[str, dict[str, float]] = {}
    contests = [c for c in plan.CONTESTS if not options.only or c.key in options.only]
    with rounds.workers(by_kind) as ask:
        versions = {kind: ask(kind, do="version") for kind in KINDS}
        if [versions[kind].pop("patched") for kind in KINDS] != [False, True]:
            raise ToolError(
                f"The two torches are not what they should be: {versions}. Remove "
                f"{environments.WORK} and run this again."
            )
        steps = sorted({(size, c.key) for c in contests for size in c.sizes})
        for size, key in steps:
            if size > options.largest:
                continue
            (contest,) = (c for c in contests if c.key == key)
            start = time.monotonic()
            measured, missing = rounds.run(
                contest,
                size,
                ask,
                rounds=options.rounds,
                patience=options.patience,
                min_run_time=options.min_run_time,
            )
            figures += measured
            left_out.setdefault(key, []).extend(missing)
            _progress(f"{key} at {size:,}: {time.monotonic() - start:.0f} s")
        if not options.only:
            for kind in KINDS:
                for workload, size in plan.MEMORY[kind]:
                    if size <= options.largest:
                        memory.setdefault(kind, {})[f"{workload} {size}"] = ask(
                            kind, do="memory", size=size, workload=workload
                        )
            _progress("memory")
            for size in plan.FILES:
                if size <= options.largest:
                    sizes[str(size)] = _per_param(
                        size, *(ask(kind, do="files", size=size) for kind in KINDS)
                    )
    imports = (
        {} if options.only else rounds.import_times(by_kind, max(3, options.rounds * 2))
    )
    return {
        "figures": sorted(figures, key=lambda f: (_rank(f.contest), f.size)),
        "left_out": {key: notes for key, notes in left_out.items() if notes},
        "memory": memory,
        "files": sizes,
        "imports": imports,
        "torch": {kind: versions[kind]["torch"] for kind in KINDS},
    }


def _rank(key: str) -> int:
    return [contest.key for contest in plan.CONTESTS].index(key)


def _per_param(
    size: int, stock: Mapping[str, float], patched: Mapping[str, float]
) -> dict[str, float]:
    return {
        "name": patched["name"],
        "indexed": patched["unnamed"] / size,
        "stock": stock["named"] / size,
        "patched": patched["named"] / size,
        "stock_names": (stock["named"] - stock["unnamed"]) / size,
        "patched_names": (patched["named"] - patched["unnamed"]) / size,
    }


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def text_of(run: Mapping[str, Any]) -> str:
    """The report of a run, in Markdown."""
    measured = [
        contest
        for contest in plan.CONTESTS
        if any(f.contest == contest.key for f in run["figures"])
    ]
    verdicts = targets.verdicts(
        run["figures"], run["memory"].get("patched", {}), run["imports"]
    )
    parts = [
        "## Optimizers with the series, beside stock",
        ", ".join(f"{key}: {value}" for key, value in run["machine"].items()),
        f"torch {run['torch']['stock']} without and with the series of "
        f"{run['series']}; one thread, garbage collection on; up to "
        f"{run['rounds']} rounds, stock and patched in turns.",
        report.verdict_table([v for v in verdicts if v.met is not None]),
        report.LEGEND,
        *(report.contest_table(contest, run["figures"]) for contest in measured),
    ]
    if run["memory"]:
        parts.append(report.memory_table(run["memory"]))
    if run["files"]:
        parts.append(report.files_table(run["files"]))
    if run["imports"]:
        medians = {kind: sorted(s)[len(s) // 2] for kind, s in run["imports"].items()}
        parts.append(
            "### `import torch`\n\n"
            + ", ".join(f"{k}: {report.duration(s)}" for k, s in medians.items())
            + f" (medians of {len(run['imports']['stock'])})"
        )
    notes = [f"{note} ({key})" for key, n in run["left_out"].items() for note in n]
    if notes:
        parts.append("Left out: " + "; ".join(notes) + ".")
    return "\n\n".join(parts) + "\n"


def as_json(run: Mapping[str, Any]) -> str:
    """The figures of a run as JSON."""
    plain = {**run, "figures": [figure.as_json() for figure in run["figures"]]}
    return json.dumps(_rounded(plain), indent=1) + "\n"


def _rounded(value: Any) -> Any:
    """The same with four digits: more would be noise, and a larger file."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return list(map(_rounded, value)) if isinstance(value, list) else value


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    keys = [contest.key for contest in plan.CONTESTS]
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, two rounds")
    parser.add_argument(
        "--refresh", action="store_true", help="write all of benchmarks/results/"
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
    options = parser.parse_args(arguments)
    options.patience, options.min_run_time = 10.0, 0.05
    if options.quick:
        options.rounds = min(options.rounds, 2)
        options.largest = min(options.largest, 1_000)
        options.min_run_time = 0.02
    if options.rounds < 1 or options.largest < plan.SIZES[0]:
        parser.error(f"--rounds must be at least 1, and --largest {plan.SIZES[0]}")
    if options.refresh:
        if options.only or options.quick or options.largest < plan.SIZES[-1]:
            parser.error("--refresh measures everything; leave the other options out")
        RESULTS.mkdir(exist_ok=True)
        options.json, options.plots = RESULTS / "optim_state.json", RESULTS
    if options.plots and importlib.util.find_spec("matplotlib") is None:
        parser.error("the package 'matplotlib' is missing; install it with pip")
    return options


def main() -> int:
    """Measure, print, and write what is asked for.

    Returns:
        int: the exit status: 1 if a target is missed or nothing can be measured.
    """
    options = parse()
    try:
        by_kind = environments.make()
        run = {
            "machine": machine(),
            "series": environments.series_id(),
            "rounds": options.rounds,
            **measure(by_kind, options),
        }
        text = text_of(run)
        print(text)
        if options.json:
            files.replace({options.json: as_json(run).encode()})
        if options.refresh:
            files.replace({RESULTS / "optim_state.md": text.encode()})
    except ToolError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if options.plots:
        import plots

        options.plots.mkdir(parents=True, exist_ok=True)
        for contest in plan.CONTESTS:
            if contest.plotted and any(
                f.contest == contest.key for f in run["figures"]
            ):
                plots.draw(
                    contest, run["figures"], options.plots / f"{contest.key}.png"
                )
    if options.refresh:
        subprocess.run([sys.executable, str(INSTRUCTIONS), "--refresh"], check=False)
    return 1 if "**missed**" in text else 0


if __name__ == "__main__":
    sys.exit(main())
