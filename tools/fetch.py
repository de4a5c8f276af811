"""The Python files of any supported release, from a wheel of any platform.

Wheels of one release differ in their compiled parts alone, so the smallest serves.
"""

import os
import sys
from pathlib import Path

from tools import base, files, layout
from tools.errors import ToolError
from tools.releases import Release


#: Systems whose wheels hold no GPU code: 80 to 140 MB.
_PLATFORMS = ("macosx_14_0_arm64", "macosx_11_0_arm64")


def python_files(release: Release) -> Path:
    """A wheel with the Python files of a release, downloaded if there is none.

    Args:
        release (Release): the release.

    Returns:
        Path: an official wheel in the cache, for any platform: not to be
        installed.

    Raises:
        ToolError: if it cannot be downloaded or written.
    """
    found = cached(release)
    if found:
        return found
    folder = layout.cache() / "any"
    folder.mkdir(parents=True, exist_ok=True)
    with files.scratch(folder) as scratch:
        _download(release, scratch)
        wheels = list(scratch.glob("*.whl"))
        if len(wheels) != 1:
            raise ToolError(f"pip downloaded no wheel of torch {release.version}.")
        target = folder / wheels[0].name
        os.replace(wheels[0], target)
    return target


def cached(release: Release) -> Path | None:
    """A wheel of a release that an earlier command has downloaded.

    Args:
        release (Release): the release.

    Returns:
        Path, optional: an official wheel, for any platform; None if there is none.
    """
    found = sorted(layout.cache().glob(f"*/torch-{release.version}[+-]*.whl"))
    return found[0] if found else None


def _download(release: Release, folder: Path) -> None:
    environment = base.pip_environment()
    if environment is None:
        raise ToolError(
            f"{sys.executable} has no pip to download torch {release.version} with. "
            "Install pip for it."
        )
    options = ["--only-binary", ":all:"]
    for platform in _PLATFORMS:
        options += ["--platform", platform]
    major, minor = release.python
    options += ["--python-version", f"{major}.{minor}"]
    reason = base.pip_download(
        # Constraints are about what is installed; this wheel is only read.
        {**environment, "PIP_CONSTRAINT": os.devnull},
        f"torch=={release.version}",
        folder,
        options,
    )
    if reason is not None:
        raise ToolError(
            f"pip could not download torch {release.version}. Check the network and "
            f"pip's configuration. What pip says: {reason}"
        )
