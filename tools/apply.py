"""The series over the installed torch, in place, and off again."""

import sys
from collections.abc import Sequence
from pathlib import Path

from tools import files, installed, layout, patched, record, releases
from tools.errors import ToolError
from tools.installed import KEPT, RECORD, Originals, State, Torch


def apply(
    torch: Torch | None = None,
    patches_root: Path = layout.PATCHES,
    overlay_root: Path = layout.OVERLAY,
) -> str:
    """Lay the series over a torch, in place: all of its files, or none.

    The originals are kept in the folder of the torch's metadata, and RECORD lists
    them and describes the new files, so that ``pip`` removes all of it.

    Args:
        torch (Torch, optional): the torch. Default: the one that Python imports.
        patches_root (Path): the folder of the patches.
        overlay_root (Path): the folder of the overlay.

    Returns:
        str: a sentence that says what was done.

    Raises:
        ToolError: if a file is neither that of a supported release nor what an
            earlier call made of it, or there is no RECORD. Nothing is changed.
    """
    state = installed.look(torch or _imported(), patches_root, overlay_root)
    torch, site = state.torch, state.originals.site
    _refuse_departed(state.originals)
    if state.current:
        return f"{torch} has the series already, with revision {state.here}."
    if state.differing:
        raise ToolError(_refusal(state, patches_root))
    if torch.info is None or not (torch.info / RECORD).is_file():
        raise ToolError(
            f"{torch} has no RECORD of its files beside it, so that pip could not "
            "remove it afterwards: it is a view, or was not installed by pip. Nothing "
            "was changed."
        )
    laid = patched.Series(state.release, patches_root, overlay_root)
    new = patched.contents(state.originals.read, laid, str(torch))
    if state.originals.kept:
        revert(torch)
    # What is kept comes first, and torch.__version__ last: if this is killed on the
    # way, both directions are open.
    rows = installed.listed(torch.info / RECORD)
    kept = {path: state.originals.read(path) for path in new}
    aside = {
        f"{torch.info.name}/{KEPT}/{path}": content
        for path, content in {
            RECORD: files.content(torch.info / RECORD),
            **kept,
        }.items()
        if content is not None
    }
    rows |= {path: record.row(content) for path, content in {**aside, **new}.items()}
    contents = {**aside, f"{torch.info.name}/{RECORD}": record.text(rows), **new}
    files.replace({site / path: content for path, content in contents.items()})
    return (
        f"{torch.folder} is PyTorch {state.release}: {len(new) - len(laid.overlay)} files "
        f"were changed and {len(laid.overlay)} added, revision {state.here} of the series. "
        "To put the originals back: python -m tools apply --revert"
    ) + (laid.limits and f"\n{laid.limits}")


def revert(torch: Torch | None = None) -> str:
    """Put the files of a torch back as they were before :func:`apply`.

    Args:
        torch (Torch, optional): the torch. Default: the one that Python imports.

    Returns:
        str: a sentence that says what was done.

    Raises:
        ToolError: if :func:`apply` was not here, or a file was changed since.
            Nothing is changed.
    """
    torch = _imported() if torch is None else torch
    originals = installed.originals(torch)
    _refuse_departed(originals)
    if torch.info is None or not (torch.info / KEPT / RECORD).is_file():
        raise ToolError(
            f"{torch} was not changed by 'python -m tools apply'; there is nothing to "
            "put back."
        )
    site, folder = originals.site, torch.info / KEPT
    contents: dict[Path, bytes | None] = {
        site / path: content for path, content in reversed(list(originals.kept.items()))
    }
    for path in originals.added:
        file = site / path
        contents |= dict.fromkeys(
            [file, *(file.parent / "__pycache__").glob(f"{file.stem}.*.pyc")]
        )
    contents[torch.info / RECORD] = (folder / RECORD).read_bytes()
    # Without the kept RECORD, nobody would know the rest.
    aside = [folder / path for path in originals.kept]
    contents |= dict.fromkeys([*aside, folder / RECORD])
    files.replace(contents)
    files.remove_empty({path.parent for path, new in contents.items() if new is None})
    return f"{torch.folder} is as it was: {len(originals.kept)} files were put back."


def _imported() -> Torch:
    torch = installed.imported()
    if torch is None:
        raise ToolError(
            f"No torch is installed for {sys.executable}. To install it: pip install ."
        )
    return torch


def _refuse_departed(originals: Originals) -> None:
    if originals.departed:
        raise ToolError(
            "These files were changed since 'python -m tools apply':"
            f"{_lines(originals.departed)}\nNothing was done. Restore them, or install "
            "torch again."
        )


def _refusal(state: State, patches_root: Path) -> str:
    """Why the series cannot be laid over a torch."""
    torch = state.torch
    revision = patched.revision_of(torch.version)
    if revision:
        return (
            f"{torch} is from a patched wheel, with revision {revision} of the series. "
            f"This repository has {state.here}; to install it: pip install ."
        )
    supported = ", ".join(
        release.version for release in releases.supported(patches_root)
    )
    return (
        f"{torch} is none of the releases that the series is for ({supported}). It comes "
        f"closest to {state.release}, where these files are others:"
        f"{_lines(state.differing)}\nNothing was changed."
    )


def _lines(paths: Sequence[str]) -> str:
    return "".join(f"\n  {path}" for path in paths)
