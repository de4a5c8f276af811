"""How long a patched wheel takes, beside a copy, and unpacking and packing."""

import tempfile
import time
import zipfile
from pathlib import Path

from plan import Call
from rounds import Ask

from tools import base, wheel


def copy(official: Path, folder: Path) -> None:
    """Copy the file, and nothing else."""
    (folder / official.name).write_bytes(official.read_bytes())


def build(official: Path, folder: Path) -> None:
    """Write the patched wheel."""
    wheel.build(official, folder)


def repack(official: Path, folder: Path) -> None:
    """What ``wheel unpack`` and ``wheel pack`` do; without hashes, and packed less.

    They take longer: so many times faster a patched wheel is at least.
    """
    with zipfile.ZipFile(official) as archive:
        archive.extractall(folder / "tree")
        names = archive.namelist()
    packed = folder / official.name
    deflated = zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(packed, "w", deflated, compresslevel=1) as archive:
        for name in names:
            archive.write(folder / "tree" / name, name)


_WAYS = {"copy": copy, "build": build, "repack": repack}


def ask() -> Ask:
    """What measures :class:`plan.Call` of these ways, in seconds of the wall clock.

    Returns:
        Callable: it writes to a folder that is empty before.

    Raises:
        ToolError: if there is no official wheel.
    """
    official = base.named_wheel() or base.find(base.Wanted())

    def seconds(call: Call) -> float:
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            _WAYS[call.workload](official, Path(folder))
            return time.perf_counter() - start

    return seconds
