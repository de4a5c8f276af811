"""The PyTorch releases that the series is for."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tools import files, layout
from tools.errors import ToolError


#: What is taken if nobody names a release and no torch is installed.
DEFAULT = "2.13.0"

#: In the folder of the patches: a line for each release.
FILE = "releases"

#: The level of a release that has only the patches under ``torch/optim``, and what
#: they need.
OPTIMIZERS = "optimizers"

_HEADER = f"""\
# The releases that the series is for, newest first, and the oldest Python of each.
# "{OPTIMIZERS}": it has the patches under torch/optim, and what they need, alone.
"""

_LINE = re.compile(rf"(\d+\.\d+\.\d+) +python (\d+)\.(\d+)( +{OPTIMIZERS})?")


@dataclass(frozen=True)
class Release:
    """A PyTorch release that the series is for.

    Attributes:
        version (str): for example ``"2.13.0"``.
        python (tuple[int, int]): the oldest Python that it runs on.
        optimizers_only (bool): whether it is at the level "optimizers".
    """

    version: str
    python: tuple[int, int]
    optimizers_only: bool = False


def supported(root: Path = layout.PATCHES) -> list[Release]:
    """The releases that the series is for.

    Args:
        root (Path): the folder of the patches.

    Returns:
        list[Release]: one for each line of ``<root>/releases``, newest first.

    Raises:
        ToolError: if there is no such file, or a line of it cannot be read.
    """
    file = root / FILE
    try:
        lines = files.text(file).splitlines()
    except FileNotFoundError as error:
        raise ToolError(
            f"{file} is missing; it lists the releases of PyTorch. Restore it."
        ) from error
    found: list[Release] = []
    for number, line in enumerate(lines, 1):
        entry = line.partition("#")[0].strip()
        if not entry:
            continue
        parts = _LINE.fullmatch(entry)
        if parts is None:
            raise ToolError(
                f"Line {number} of {file} is '{entry}'; each must be a release and its "
                f"oldest Python, such as '{DEFAULT}  python 3.10', and may end with "
                f"'{OPTIMIZERS}'."
            )
        python = (int(parts[2]), int(parts[3]))
        found.append(Release(parts[1], python, parts[4] is not None))
    if not found:
        raise ToolError(f"{file} lists no release. Restore it.")
    return sorted(found, key=lambda release: order(release.version), reverse=True)


def listed(releases: Iterable[Release]) -> bytes:
    """The content of the file for some releases.

    Args:
        releases (Iterable[Release]): the releases, in any order.

    Returns:
        bytes: a line for each, newest first.
    """
    ordered = sorted(releases, key=lambda release: order(release.version), reverse=True)
    lines = [_HEADER]
    for release in ordered:
        level = f"  {OPTIMIZERS}" if release.optimizers_only else ""
        major, minor = release.python
        lines.append(f"{release.version}  python {major}.{minor}{level}\n")
    return "".join(lines).encode()


def newest(root: Path = layout.PATCHES) -> Release:
    """The release that the patches in ``root`` itself are for.

    Args:
        root (Path): the folder of the patches.

    Returns:
        Release: the newest of those that are supported.

    Raises:
        ToolError: as :func:`supported`.
    """
    return supported(root)[0]


def find(version: str, root: Path = layout.PATCHES) -> Release:
    """The supported release of a version.

    Args:
        version (str): the version, with or without a variant: ``"2.13.0+cpu"``.
        root (Path): the folder of the patches.

    Returns:
        Release: the release.

    Raises:
        ToolError: if it is not supported; the message lists those that are.
    """
    releases = supported(root)
    for release in releases:
        if release.version == version.partition("+")[0]:
            return release
    what = (
        f"torch {version} is no release"
        if order(version) == ()
        else f"PyTorch {version} is not supported"
    )
    raise ToolError(
        f"{what}. The series is for {', '.join(r.version for r in releases)}: take "
        "one of them, or port the series with 'python -m tools port RELEASE'."
    )


def limits(version: str, root: Path = layout.PATCHES) -> str:
    """What users of a release have to know before they name parameters.

    Args:
        version (str): a supported release.
        root (Path): the folder of the patches.

    Returns:
        str: a sentence; empty for most releases.

    Raises:
        ToolError: as :func:`find`.
    """
    if not find(version, root).optimizers_only:
        return ""
    return (
        f"Of PyTorch {version}, the optimizers alone are patched: give those no names "
        "that go into distributed checkpoints, FSDP or ZeroRedundancyOptimizer."
    )


def order(version: str) -> tuple[int, ...]:
    """What a release sorts by.

    Args:
        version (str): for example ``"2.13.0"`` or ``"2.13.0+cpu"``.

    Returns:
        tuple[int, ...]: its numbers; empty for what is no release, such as a
        development build.
    """
    found = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)", version.partition("+")[0])
    return tuple(map(int, found.groups())) if found else ()
