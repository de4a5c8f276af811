"""A patched wheel from a source checkout of PyTorch.

The checkout is copied with the series laid over it, and PyTorch's own ``setup.py``
builds the wheel in the copy. The checkout itself stays as it is. The next build
brings the copy up to date, so that only what changed is compiled.
"""

import filecmp
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tools import files, layout, releases, series
from tools.errors import ToolError, notice
from tools.patched import Series, labeled


#: Names a checkout to build from instead of an official wheel.
VARIABLE = "OPTIM_NAMES_SOURCE"

#: Marks a folder as a copy that this module made; has the path of each file in it.
MARKER = ".optim-names-copy"

#: Where the copy goes.
DESTINATION = layout.BUILD / "source"

#: Folders at the top of a checkout that a build makes anew.
_GENERATED = ("build", "dist")


def build(
    checkout: Path,
    out_dir: Path,
    arguments: Sequence[str] = (),
    *,
    patches_root: Path = layout.PATCHES,
    overlay_root: Path = layout.OVERLAY,
    destination: Path = DESTINATION,
) -> Path:
    """Build a patched wheel from a copy of a checkout.

    Args:
        checkout (Path): a PyTorch checkout of a supported release.
        out_dir (Path): the folder for the wheel; it is made if need be.
        arguments (Sequence[str]): further arguments for PyTorch's own
            ``setup.py bdist_wheel``.
        patches_root (Path): the folder of the patches.
        overlay_root (Path): the folder of the overlay.
        destination (Path): where the copy goes. One that an earlier build left
            there is brought up to date.

    Returns:
        Path: the wheel, under the name that PyTorch's build gave it.

    Raises:
        ToolError: if the checkout is not one of a supported release, a patch
            does not apply, or PyTorch's build fails. The copy stays as it was in
            the first two cases.
    """
    checkout = checkout.resolve()
    release = _release(checkout, patches_root)
    _check_destination(checkout, destination)
    laid = Series(release, patches_root, overlay_root)
    with files.scratch() as scratch:
        sources = _files(checkout, laid, scratch)
        notice(f"Copying {checkout} to {destination}")
        _update(destination, sources)
    _forget_packaging(destination)
    wheel = _hand_over(destination, labeled(release, laid.label), arguments)
    notice(laid.limits)
    return _collect(wheel, out_dir)


def _release(checkout: Path, patches_root: Path) -> str:
    """The release of a checkout."""
    try:
        version = files.text(checkout / "version.txt").strip()
    except OSError as error:
        raise ToolError(
            f"{checkout} is not a PyTorch checkout: it has no readable version.txt."
        ) from error
    for needed in ("setup.py", "torch/optim/optimizer.py"):
        if not (checkout / needed).is_file():
            raise ToolError(
                f"{checkout} is not a PyTorch checkout: it has no {needed}."
            )
    # The release branch keeps the suffix of its first day.
    release = re.sub(r"(a0|rc\d+)$", "", version)
    try:
        return releases.find(release, patches_root).version
    except ToolError as error:
        raise ToolError(
            f"{checkout} cannot be built from: {error} Check out the tag of a release, "
            f"such as v{releases.DEFAULT}, with its submodules."
        ) from error


def _check_destination(checkout: Path, destination: Path) -> None:
    place = destination.resolve()
    if place.is_relative_to(checkout) or checkout.is_relative_to(place):
        raise ToolError(
            f"The checkout {checkout} and the place of its copy, {place}, lie inside "
            "each other. Move the checkout somewhere else."
        )
    own = (destination / MARKER).is_file()
    if destination.exists() and not own and any(destination.iterdir()):
        raise ToolError(
            f"{destination} is in the way: it is not a copy that an earlier build made. "
            "Move it somewhere else."
        )


def _files(checkout: Path, laid: Series, scratch: Path) -> dict[str, Path]:
    """All files of a patched checkout: POSIX path to where each can be copied from."""
    found: dict[str, Path] = {}
    for folder, folders, names in os.walk(checkout):
        place = Path(folder)
        if place == checkout:
            folders[:] = [name for name in folders if name not in _GENERATED]
        links = [name for name in folders if (place / name).is_symlink()]
        for path in (place / name for name in (*names, *links)):
            found[path.relative_to(checkout).as_posix()] = path
    touched = series.touched_files(laid.patches)
    series.copy_files(checkout, scratch, touched)
    series.apply(laid.patches, scratch, laid.promises, name=str(checkout))
    for name in touched:
        found.pop(name, None)
        if (scratch / name).exists():
            found[name] = scratch / name
    for name, path in laid.overlay.items():
        if name in found:
            raise ToolError(
                f"The overlay's {path} is in {checkout} already, as {name}. Give a "
                "checkout without changes."
            )
        found[name] = path
    return found


def _update(copy: Path, sources: Mapping[str, Path]) -> None:
    """Bring a copy up to date, and leave alone what was built in it.

    A file that is as it was keeps its time, so that nothing is compiled anew for it;
    one that is replaced is newer than all that was built.
    """
    copy.mkdir(parents=True, exist_ok=True)
    marker = copy / MARKER
    earlier = files.text(marker).splitlines() if marker.exists() else []
    # Should this be interrupted, the next run knows about both.
    marker.write_text("\n".join({*earlier, *sources}), encoding="utf-8")
    for name in {*earlier} - sources.keys():
        (copy / name).unlink(missing_ok=True)
    for name, path in sources.items():
        target = copy / name
        new = not os.path.lexists(target)
        if not new and _same(path, target):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        shutil.copy2(path, target, follow_symlinks=False)
        if not new:
            os.utime(target, follow_symlinks=False)
    marker.write_text("\n".join(sources), encoding="utf-8")


def _same(path: Path, other: Path) -> bool:
    if path.is_symlink() or other.is_symlink():
        return (
            path.is_symlink()
            and other.is_symlink()
            and os.readlink(path) == os.readlink(other)
        )
    return filecmp.cmp(path, other)


def _forget_packaging(copy: Path) -> None:
    """Remove what would bring files of an earlier build into the new wheel.

    What cmake and ninja made stays.
    """
    shutil.rmtree(copy / "dist", ignore_errors=True)
    for folder in (copy / "build").glob("*"):
        # As setuptools names them: lib.linux-x86_64-cpython-313
        if folder.name.startswith(("lib.", "bdist.")):
            shutil.rmtree(folder)


def _hand_over(copy: Path, version: str, arguments: Sequence[str]) -> Path:
    """Run PyTorch's own build in the copy, and say which wheel it made."""
    environment = dict(os.environ)
    environment.setdefault("PYTORCH_BUILD_VERSION", version)
    environment.setdefault("PYTORCH_BUILD_NUMBER", "1")
    notice(f"Building in {copy}")
    done = subprocess.run(
        [sys.executable, "setup.py", "bdist_wheel", *arguments],
        cwd=copy,
        env=environment,
    )
    if done.returncode:
        raise ToolError(
            f"PyTorch's own setup.py failed in {copy}, with status {done.returncode}; "
            "its messages are above."
        )
    wheels = list((copy / "dist").glob("*.whl"))
    if len(wheels) != 1:
        raise ToolError(
            f"PyTorch's own setup.py left {len(wheels)} wheels in {copy / 'dist'}, not "
            "one; its messages are above."
        )
    return wheels[0]


def _collect(wheel: Path, out_dir: Path) -> Path:
    """Move the wheel to where the user wants it, complete or not at all."""
    out_dir.mkdir(parents=True, exist_ok=True)
    target = out_dir / wheel.name
    with files.scratch(out_dir) as scratch:
        os.replace(shutil.move(wheel, scratch), target)
    return target
