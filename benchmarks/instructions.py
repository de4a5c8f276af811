"""Instructions of steps, counted by valgrind on Linux.

Counts do not depend on what else the machine does. Both torches run the same script
under callgrind, at the same time; importing torch there takes a minute or more, so
that one process counts for all optimizers.
"""

import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from plan import KINDS, Call, Kind

from tools.errors import ToolError


#: The optimizers, and how they are built.
OPTIMIZERS = {
    "SGD": "torch.optim.SGD(params, lr=1e-3, momentum=0.9)",
    "Adam": "torch.optim.Adam(params, lr=1e-3)",
    "AdamW": "torch.optim.AdamW(params, lr=1e-3)",
}
WORKLOADS = [f"{kind} {way}" for kind in OPTIMIZERS for way in ("index", "name")]

#: Steps that are counted.
STEPS = 50

# Collection is switched as collect_callgrind() of torch.utils.benchmark does it,
# which would start a process, and import torch, for each count.
_SCRIPT = f"""
import gc, torch
torch.set_num_threads(1)
for optimizer in {list(OPTIMIZERS.values())!r}:
    for named in (False, True):
        tensors = {{f"layer.{{i}}": torch.nn.Parameter(torch.ones(8)) for i in range(4)}}
        for tensor in tensors.values():
            tensor.grad = torch.ones_like(tensor)
        params = list(tensors.items() if named else tensors.values())
        step = eval(optimizer).step
        for _ in range(10):
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


def count(environments: Mapping[Kind, Mapping[str, str]]) -> dict[Call, float]:
    """Count for all optimizers, with both torches.

    Args:
        environments (Mapping): environment variables of each kind.

    Returns:
        dict[Call, float]: instructions per step.

    Raises:
        ToolError: if they cannot be counted here.
    """
    if sys.platform != "linux" or shutil.which("valgrind") is None:
        raise ToolError(
            "Instructions are counted with valgrind, on Linux; install it, e.g. with "
            "'apt-get install valgrind'."
        )
    with ThreadPoolExecutor(len(KINDS)) as pool:
        counted = pool.map(_count, map(environments.__getitem__, KINDS))
        return {
            Call(kind, workload): number
            for kind, numbers in zip(KINDS, counted)
            for workload, number in zip(WORKLOADS, numbers)
        }


def _count(environment: Mapping[str, str]) -> list[float]:
    """Instructions per step of each block of the script."""
    # Where memory lies decides how dicts of objects are laid out.
    fixed = ["setarch", platform.machine(), "-R"] if shutil.which("setarch") else []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        callgrind = ["--tool=callgrind", "--collect-atstart=no"]
        callgrind.append(f"--callgrind-out-file={out}")
        done = subprocess.run(
            [*fixed, "valgrind", *callgrind, sys.executable, "-c", _SCRIPT],
            env={**environment, "PYTHONHASHSEED": "0"},
            capture_output=True,
            encoding="utf-8",
        )
        # The last file is what is collected until the process ends: nothing.
        dumps = [Path(f"{out}.{i}") for i in range(1, len(WORKLOADS) + 1)]
        if done.returncode != 0 or not all(map(Path.exists, dumps)):
            raise ToolError(f"valgrind could not count:\n{done.stderr[-2000:]}")
        found = [_TOTALS.search(dump.read_text()) for dump in dumps]
    counts = [int(match[1]) / STEPS for match in found if match]
    if len(counts) != len(WORKLOADS) or not all(counts):
        raise ToolError("valgrind counted nothing with this build of torch.")
    return counts
