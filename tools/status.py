"""Which torch is installed, and which revision of the series it holds."""

import importlib.metadata
import importlib.util
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools import files, git, series
from tools.base import BASE_RELEASE
from tools.series import LABEL, Patch


_VERSION = re.compile(r"^__version__ = '([^']+)'", re.MULTILINE)
_REVISION = re.compile(rf"[+.]{LABEL}(?:\.(\d+\.g[0-9a-f]+))?$")


@dataclass(frozen=True)
class Status:
    """What is known of the installed torch.

    Attributes:
        patched (bool): whether it holds the series, in any revision.
        current (bool): whether it holds the series as it is in this repository.
        text (str): what to tell the user.
    """

    patched: bool
    current: bool
    text: str


def status(patches: Sequence[Patch], overlay: Mapping[str, Path]) -> Status:
    """Look at the torch that this interpreter would import, without importing it.

    What the version says is compared with the files themselves.

    Args:
        patches (Sequence[Patch]): the series of this repository.
        overlay (Mapping[str, Path]): its overlay, as
            :func:`tools.series.overlay_files` gives it.

    Returns:
        Status: what was found.
    """
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        text = f"No torch is installed for {sys.executable}. To install: pip install ."
        return Status(False, False, text)
    folder = Path(spec.origin).parent
    version = _version(folder)
    head = f"torch {version} in {folder}"
    here = series.revision(patches, overlay)
    found = _REVISION.search(version)
    own = (found[1] or "unknown") if found else ""
    if own == here and not _is_patched(folder.parent, patches, overlay):
        text = (
            f"{head} says that it holds revision {here} of the series, but its files "
            "are others. Install it again: pip install --force-reinstall --no-deps ."
        )
        return Status(False, False, text)
    if own == here or _is_patched(folder.parent, patches, overlay):
        text = f"{head}: patched, with revision {here}, as in this repository."
        return Status(True, True, f"{text}\n{_how_to_stay(version)}")
    if own:
        text = (
            f"{head}: patched, with revision {own} of the series. This repository has "
            f"{here}; to install it: pip install ."
        )
        return Status(True, False, f"{text}\n{_how_to_stay(version)}")
    text = f"{head}: not patched; state is loaded by position. "
    if version.partition("+")[0] == BASE_RELEASE:
        text += "To install the patched one: pip install ."
    else:
        text += f"The series is for {BASE_RELEASE}; to install that: pip install ."
    return Status(False, False, text)


def _version(folder: Path) -> str:
    """The version of the torch in a folder, as that torch would say it."""
    content = files.content(folder / "version.py")
    found = _VERSION.search(git.text(content or b""))
    if found:
        return found[1]
    try:
        return importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"


def _is_patched(
    folder: Path, patches: Sequence[Patch], overlay: Mapping[str, Path]
) -> bool:
    """Whether the files are those that patches and overlay give."""
    expected = {path: after for path, (_, after) in series.blobs(patches).items()}
    expected |= {path: git.blob(f.read_bytes()) for path, f in overlay.items()}
    return all(
        _blob(folder / path) == blob
        for path, blob in expected.items()
        if path.startswith("torch/")
    )


def _blob(path: Path) -> str:
    content = files.content(path)
    return git.blob(None if content is None else files.with_unix_lines(content))


def _how_to_stay(version: str) -> str:
    return (
        "To keep it when other packages are installed, put this line into a file, "
        f"and give that to pip with '-c FILE':\ntorch=={version}"
    )
