"""How many instructions a step takes with the series, beside stock.

Run ``python benchmarks/step_instructions.py`` on Linux with valgrind. Counts do not
depend on what else the machine does. Each comes from a process of its own, in which
torch.utils.benchmark runs a few steps under callgrind; importing torch there takes
a minute or more.
"""

import argparse
import concurrent.futures
import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import environments
import report
from environments import Kind

from tools import files
from tools.errors import ToolError


RESULTS = Path(__file__).resolve().parent / "results"

#: The optimizers: how they are built.
OPTIMIZERS = {
    "SGD with momentum": "torch.optim.SGD(params, lr=1e-3, momentum=0.9)",
    "Adam": "torch.optim.Adam(params, lr=1e-3)",
}
PARAMETERS = 4

#: Steps that are counted, after some that are not.
STEPS = 50
WARM_UP = 5

#: A ratio of counts may differ by this much from 1.
TOLERANCE = 0.005

#: The torch and the parameters that it is given; the first is what the others are
#: compared with.
VARIANTS: dict[str, tuple[Kind, str]] = {
    "stock unnamed": ("stock", "list(tensors.values())"),
    "stock named": ("stock", "list(tensors.items())"),
    "unnamed": ("patched", "list(tensors.values())"),
    "named": ("patched", "list(tensors.items())"),
}

_SCRIPT = """
from torch.utils.benchmark import Timer
setup = '''
import gc, torch
tensors = {{f"layer.{{i}}": torch.nn.Parameter(torch.ones(8)) for i in range({count})}}
params = {params}
for tensor in tensors.values():
    tensor.grad = torch.ones_like(tensor)
optimizer = {optimizer}
for _ in range({warm_up}):
    optimizer.step()
gc.collect()
gc.disable()
'''
timer = Timer("optimizer.step()", setup)
stats = timer.collect_callgrind(number={steps}, collect_baseline=False)
print(stats.counts())
"""


def count(environment: Mapping[str, str], optimizer: str, params: str) -> float:
    """Count the instructions of a step.

    Args:
        environment (Mapping[str, str]): environment variables of the process.
        optimizer (str): an expression that builds it from ``params``.
        params (str): an expression that makes those from ``tensors``.

    Returns:
        float: instructions per step.

    Raises:
        ToolError: if they cannot be counted.
    """
    script = _SCRIPT.format(
        count=PARAMETERS,
        params=params,
        optimizer=optimizer,
        warm_up=WARM_UP,
        steps=STEPS,
    )
    # Where memory lies decides how dicts of objects are laid out.
    fixed = ["setarch", platform.machine(), "-R"] if shutil.which("setarch") else []
    done = subprocess.run(
        [*fixed, sys.executable, "-c", script],
        env=dict(environment),
        capture_output=True,
        encoding="utf-8",
    )
    if done.returncode != 0:
        raise ToolError(f"Instructions cannot be counted:\n{done.stderr}")
    return int(done.stdout.split()[-1]) / STEPS


def missing() -> str | None:
    """Why nothing can be counted here, as a full sentence."""
    if sys.platform != "linux":
        return "valgrind with torch runs on Linux only."
    if shutil.which("valgrind") is None:
        return "valgrind is missing; install it, e.g. with 'apt-get install valgrind'."
    return None


def measure(jobs: int) -> dict[str, dict[str, float]]:
    """Count for all optimizers and variants.

    Args:
        jobs (int): how many processes at a time.

    Returns:
        dict: instructions per step by optimizer and variant.
    """
    # A run of optim_state.py may be using the others.
    by_kind = environments.make(environments.WORK / "step")
    todo = [(o, v) for o in OPTIMIZERS for v in VARIANTS]
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        counts = pool.map(
            lambda job: count(
                by_kind[VARIANTS[job[1]][0]], OPTIMIZERS[job[0]], VARIANTS[job[1]][1]
            ),
            todo,
        )
        found: dict[str, dict[str, float]] = {}
        for (optimizer, variant), counted in zip(todo, counts):
            found.setdefault(optimizer, {})[variant] = counted
            print(f"{optimizer}, {variant}: {counted:,.0f}", file=sys.stderr)
    return found


def text_of(counts: Mapping[str, Mapping[str, float]]) -> str:
    """The counts as a Markdown table, with ratios to the first variant."""
    rows = []
    for optimizer, by_variant in counts.items():
        base = by_variant[next(iter(VARIANTS))]
        rows.append(
            [optimizer, *(f"{c:,.0f} ({c / base:.4f})" for c in by_variant.values())]
        )
    return (
        f"### Instructions per step, {PARAMETERS} parameters (ratio to the first)\n\n"
        + report.table(["optimizer", *VARIANTS], rows)
        + f"\n\nAll ratios within {TOLERANCE:.1%}: {'met' if met(counts) else 'missed'}."
    )


def met(counts: Mapping[str, Mapping[str, float]]) -> bool:
    """Whether all counts with the series are as stock's.

    Each is compared with the count of the stock optimizer built in the same way.
    """
    return all(
        abs(by_variant[way] / by_variant[f"stock {way}"] - 1) <= TOLERANCE
        for by_variant in counts.values()
        for way in ("unnamed", "named")
    )


def main() -> int:
    """Count, print, and write what is asked for.

    Returns:
        int: the exit status: 1 if the target is missed or nothing can be counted.
    """
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the counts")
    parser.add_argument(
        "--refresh", action="store_true", help="write them to benchmarks/results/"
    )
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="processes at a time"
    )
    options = parser.parse_args()
    problem = missing()
    if problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    try:
        counts = measure(options.jobs)
        text = text_of(counts) + "\n"
        print(text)
        output: dict[str, Any] = {
            "series": environments.series_id(),
            "python": platform.python_version(),
            "parameters": PARAMETERS,
            "instructions": counts,
            "met": met(counts),
        }
        written = (json.dumps(output, indent=1) + "\n").encode()
        if options.json:
            files.replace({options.json: written})
        if options.refresh:
            RESULTS.mkdir(exist_ok=True)
            files.replace(
                {
                    RESULTS / "step_instructions.json": written,
                    RESULTS / "step_instructions.md": text.encode(),
                }
            )
    except ToolError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0 if met(counts) else 1


if __name__ == "__main__":
    sys.exit(main())
