"""How long a patched wheel takes, beside a plain copy and unpacking and packing.

Run ``python benchmarks/wheel_build.py``. The three are measured in turns in one
run, so that they meet the same machine in the same mood, and each writes to a
folder that is empty before. ``wheel unpack`` and ``wheel pack`` need the package
``wheel``.
"""

import argparse
import importlib.util
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path


sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools import base, wheel
from tools.errors import ToolError


#: At most this many times a plain copy, at least this many times faster than
#: unpacking and packing.
MOST_COPIES = 5.0
LEAST_SPEEDUP = 10.0

COPY, BUILD, REPACK = "plain copy", "patched wheel", "wheel unpack + pack"


def copy(official: Path, folder: Path) -> None:
    """Copy the file, and nothing else."""
    shutil.copyfile(official, folder / official.name)


def build(official: Path, folder: Path) -> None:
    """Write the patched wheel."""
    wheel.build(official, folder)


def repack(official: Path, folder: Path) -> None:
    """What a patched wheel costs with the package ``wheel``, without patching."""
    run = [sys.executable, "-m", "wheel"]
    quiet = subprocess.DEVNULL
    tree, packed = folder / "tree", folder / "packed"
    packed.mkdir()
    subprocess.run([*run, "unpack", official, "-d", tree], check=True, stdout=quiet)
    (unpacked,) = tree.iterdir()
    subprocess.run([*run, "pack", unpacked, "-d", packed], check=True, stdout=quiet)


def measured(
    official: Path, ways: Mapping[str, Callable[[Path, Path], None]], repeats: int
) -> dict[str, list[float]]:
    """Seconds that each way takes, all of them once a round.

    Args:
        official (Path): the official wheel.
        ways (Mapping[str, Callable[[Path, Path], None]]): what to measure.
        repeats (int): the number of rounds.

    Returns:
        dict[str, list[float]]: the seconds of each round.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    # The first to read the file would pay for the disk.
    shutil.copyfile(official, os.devnull)
    for number in range(repeats):
        for name, way in ways.items():
            with tempfile.TemporaryDirectory() as folder:
                start = time.perf_counter()
                way(official, Path(folder))
                seconds[name].append(time.perf_counter() - start)
            print(f"round {number + 1}: {name} {seconds[name][-1]:.3f} s", flush=True)
    return seconds


def machine() -> dict[str, object]:
    """What the figures depend on."""
    return {
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "temporary_folder": tempfile.gettempdir(),
    }


def table(seconds: dict[str, list[float]]) -> str:
    """Median, spread and ratios, a line for each way."""
    copied = statistics.median(seconds[COPY])
    built = statistics.median(seconds[BUILD])
    lines = [
        f"{'':22}{'median':>9}{'least':>9}{'most':>9}{'/ copy':>9}{'/ patched':>11}"
    ]
    for name, values in seconds.items():
        median = statistics.median(values)
        spread = f"{median:8.3f}s{min(values):8.3f}s{max(values):8.3f}s"
        lines.append(f"{name:22}{spread}{median / copied:9.2f}{median / built:11.2f}")
    return "\n".join(lines)


def main() -> int:
    """Measure, print, and say whether the targets are met.

    Returns:
        int: the exit status: 1 if a target is missed or nothing can be measured.
    """
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--base-wheel", type=Path, metavar="FILE")
    parser.add_argument("--repeat", type=int, default=3, metavar="ROUNDS")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    options = parser.parse_args()
    if options.repeat < 1:
        parser.error("--repeat must be at least 1")
    if importlib.util.find_spec("wheel") is None:
        parser.error("the package 'wheel' is missing; install it with pip")
    try:
        official = base.find(options.base_wheel)
        ways = {COPY: copy, BUILD: build, REPACK: repack}
        seconds = measured(official, ways, options.repeat)
    except ToolError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    described = machine()
    print(f"\n{official.name}, {official.stat().st_size / 1e6:.0f} MB")
    print(", ".join(f"{key} {value}" for key, value in described.items()))
    print(table(seconds))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    copies = medians[BUILD] / medians[COPY]
    speedup = medians[REPACK] / medians[BUILD]
    met = copies <= MOST_COPIES and speedup >= LEAST_SPEEDUP
    print(
        f"{copies:.2f} times a plain copy (at most {MOST_COPIES:g}), {speedup:.1f} times "
        f"faster than unpacking and packing (at least {LEAST_SPEEDUP:g}): "
        f"{'met' if met else 'MISSED'}"
    )
    if options.json:
        figures = {
            "wheel": official.name,
            "bytes": official.stat().st_size,
            "machine": described,
            "seconds": seconds,
            "median": medians,
            "patched_per_copy": copies,
            "repacked_per_patched": speedup,
            "targets_met": met,
        }
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
