"""Which torch is installed, and what the series made of it."""

import sys
from dataclasses import dataclass
from pathlib import Path

from tools import installed, layout, patched, releases


@dataclass(frozen=True)
class Status:
    """What is known of the installed torch.

    Attributes:
        current (bool): whether it holds the series as it is in this repository.
        text (str): what to tell the user.
    """

    current: bool
    text: str


def status(
    patches_root: Path = layout.PATCHES, overlay_root: Path = layout.OVERLAY
) -> Status:
    """Look at the torch that this interpreter would import, without importing it.

    What the version says is compared with the files themselves.

    Args:
        patches_root (Path): the folder of the patches.
        overlay_root (Path): the folder of the overlay.

    Returns:
        Status: what was found.
    """
    torch = installed.imported()
    if torch is None:
        text = f"No torch is installed for {sys.executable}. To install: pip install ."
        return Status(False, text)
    state = installed.look(torch, patches_root, overlay_root)
    revision = patched.revision_of(torch.version)
    applied = bool(state.originals.kept)
    again = "python -m tools apply" if applied else "pip install ."
    how = "patched in place" if applied else "patched"
    stay = (
        "\nTo keep it when other packages are installed, put this line into a file, "
        f"and give that to pip with '-c FILE':\ntorch=={torch.pip_version}"
    )
    if state.originals.departed:
        text = (
            f"{torch}: {how}, but these files were changed since: "
            f"{', '.join(state.originals.departed)}. Restore them, or install torch "
            "again."
        )
    elif state.originals.missing:
        text = (
            f"{torch}: patched in place, but not to the end. Run 'python -m tools "
            "apply' again, or with --revert."
        )
    elif state.current:
        text = f"{torch}: {how}, with revision {state.here}, as in this repository."
        limits = releases.limits(state.release, patches_root)
        text += (limits and f" {limits}") + stay
    elif revision == state.here:
        text = (
            f"{torch} says that it holds revision {revision} of the series, but its "
            "files are others. Install it again: pip install --force-reinstall "
            "--no-deps ."
        )
    elif revision:
        text = (
            f"{torch}: {how}, with revision {revision} of the series. This repository "
            f"has {state.here}; to install it: {again}{stay}"
        )
    elif state.differing:
        text = (
            f"{torch}: not patched; state is loaded by position. Its files are not "
            f"those of a release that the series is for: {len(state.differing)} differ "
            f"from {state.release}, which comes closest."
        )
    else:
        text = (
            f"{torch}: not patched; state is loaded by position. It is PyTorch "
            f"{state.release}. To patch it: pip install ., or in place, 'python -m "
            "tools apply'."
        )
    return Status(state.current, text)
