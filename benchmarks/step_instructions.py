"""How many instructions a step takes with the series, beside stock.

Run ``python benchmarks/step_instructions.py`` on Linux with valgrind. Counts do not
depend on what else the machine does. Both torches run the same script under
callgrind, at the same time; importing torch there takes a minute or more, so that
one process counts for all optimizers.
"""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

import environments
import report
from environments import KINDS, Kind

from tools import files
from tools.errors import ToolError


#: Instructions per step, by optimizer and variant, e.g. ``"stock named"``.
Counts: TypeAlias = dict[str, dict[str, float]]

#: The optimizers, and how they are built.
OPTIMIZERS = {
    "SGD with momentum": "torch.optim.SGD(params, lr=1e-3, momentum=0.9)",
    "Adam": "torch.optim.Adam(params, lr=1e-3)",
    "AdamW": "torch.optim.AdamW(params, lr=1e-3)",
}
WAYS = ("unnamed", "named")
PARAMETERS = 4

#: Steps that are counted, after some that are not.
STEPS = 50
WARM_UP = 10

#: A ratio of counts may differ by this much from 1.
TOLERANCE = 0.005

#: Seconds after which something is wrong.
LIMIT = 900

# The same functions switch collection on and off in collect_callgrind() of
# torch.utils.benchmark, which starts a process, and imports torch, for each count.
_SCRIPT = f"""
import gc, torch
torch.set_num_threads(1)
for optimizer in {list(OPTIMIZERS.values())!r}:
    for named in (False, True):
        tensors = {{f"layer.{{i}}": torch.nn.Parameter(torch.ones(8)) for i in range({PARAMETERS})}}
        for tensor in tensors.values():
            tensor.grad = torch.ones_like(tensor)
        params = list(tensors.items() if named else tensors.values())
        step = eval(optimizer).step
        for _ in range({WARM_UP}):
            step()
        gc.collect()
        gc.disable()
        torch._C._valgrind_toggle()
        for _ in range({STEPS}):
            step()
        torch._C._valgrind_toggle_and_dump_stats()
        gc.enable()
"""

_TOTALS = re.compile(r"^totals: (\d+)$", re.MULTILINE)


def missing() -> str | None:
    """Why nothing can be counted here, as a full sentence."""
    if sys.platform != "linux":
        return "valgrind with torch runs on Linux only."
    if shutil.which("valgrind") is None:
        return "valgrind is missing; install it, e.g. with 'apt-get install valgrind'."
    return None


def measure() -> Counts:
    """Count for all optimizers and variants.

    Returns:
        dict: instructions per step, by optimizer and variant.

    Raises:
        ToolError: if they cannot be counted.
    """
    # Not the environments of a run of optim_state.py, which may be at work.
    by_kind = environments.make(environments.WORK / "step")
    with ThreadPoolExecutor(len(KINDS)) as pool:
        counted = dict(zip(KINDS, pool.map(_count, map(by_kind.__getitem__, KINDS))))
    blocks = [(optimizer, way) for optimizer in OPTIMIZERS for way in WAYS]
    counts: Counts = {optimizer: {} for optimizer in OPTIMIZERS}
    for kind in KINDS:
        for (optimizer, way), count in zip(blocks, counted[kind]):
            counts[optimizer][_variant(kind, way)] = count
    return counts


def _variant(kind: Kind, way: str) -> str:
    return f"stock {way}" if kind == "stock" else way


def _count(environment: Mapping[str, str]) -> list[float]:
    """Instructions per step of each block of the script."""
    # Where memory lies decides how dicts of objects are laid out.
    fixed = ["setarch", platform.machine(), "-R"] if shutil.which("setarch") else []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        command = [
            *fixed,
            "valgrind",
            "--tool=callgrind",
            "--collect-atstart=no",
            f"--callgrind-out-file={out}",
            sys.executable,
            "-c",
            _SCRIPT,
        ]
        try:
            done = subprocess.run(
                command,
                env=dict(environment),
                capture_output=True,
                encoding="utf-8",
                timeout=LIMIT,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ToolError(f"Instructions cannot be counted: {error}") from error
        number = len(OPTIMIZERS) * len(WAYS)
        # The last file is what is collected until the process ends: nothing.
        dumps = [Path(f"{out}.{i}") for i in range(1, number + 1)]
        if done.returncode != 0 or not all(map(os.path.exists, dumps)):
            raise ToolError(f"Instructions cannot be counted:\n{done.stderr[-2000:]}")
        found = [_TOTALS.search(dump.read_text()) for dump in dumps]
    counts = [int(match[1]) / STEPS for match in found if match]
    if len(counts) != number or not all(counts):
        raise ToolError(
            "valgrind counted nothing; this build of torch cannot switch it on."
        )
    return counts


def ratios(counts: Mapping[str, Mapping[str, float]]) -> dict[tuple[str, str], float]:
    """Counts with the series for one of stock, built in the same way.

    Args:
        counts (Mapping): from :func:`measure`.

    Returns:
        dict: by optimizer and way.
    """
    return {
        (optimizer, way): by_variant[way] / by_variant[f"stock {way}"]
        for optimizer, by_variant in counts.items()
        for way in WAYS
    }


def met(counts: Mapping[str, Mapping[str, float]]) -> bool:
    """Whether all counts with the series are as stock's."""
    return all(abs(ratio - 1) <= TOLERANCE for ratio in ratios(counts).values())


def text_of(counts: Mapping[str, Mapping[str, float]]) -> str:
    """The counts as a Markdown table, with ratios to stock's."""
    found = ratios(counts)
    rows = [
        [optimizer]
        + [f"{by_variant[f'stock {way}']:,.0f}" for way in WAYS]
        + [f"{by_variant[way]:,.0f} ({found[optimizer, way]:.4f})" for way in WAYS]
        for optimizer, by_variant in counts.items()
    ]
    headers = ["optimizer", "stock unnamed", "stock named"]
    headers += ["unnamed (/ stock unnamed)", "named (/ stock named)"]
    title = f"### Instructions per step, {PARAMETERS} parameters\n\n"
    return title + report.table(headers, rows)


def main() -> int:
    """Count, print, and write what is asked for.

    Returns:
        int: the exit status: 1 if the target is missed or nothing can be counted.
    """
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the counts")
    options = parser.parse_args()
    problem = missing()
    if problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    try:
        counts = measure()
    except ToolError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    verdict = "met" if met(counts) else "missed"
    print(f"{text_of(counts)}\n\nAll ratios within {TOLERANCE:.1%}: {verdict}.")
    if options.json:
        output = {
            "series": environments.series_id(),
            "python": platform.python_version(),
            "instructions": counts,
        }
        files.replace({options.json: (json.dumps(output, indent=1) + "\n").encode()})
    return 0 if met(counts) else 1


if __name__ == "__main__":
    sys.exit(main())
