"""A patched wheel from a source checkout of PyTorch.

The checkout is copied, the copy is patched, and PyTorch's own ``setup.py``
builds the wheel from there. The checkout itself stays as it is.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tools import files, layout, releases, series
from tools.errors import ToolError
from tools.patched import Series, labeled


#: Names a checkout to build from instead of an official wheel.
VARIABLE = "OPTIM_NAMES_SOURCE"

#: Marks a folder as a copy that this module made, and may remove again.
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
            there is replaced.

    Returns:
        Path: the wheel, under the name that PyTorch's build gave it.

    Raises:
        ToolError: if the checkout is not one of a supported release, a patch
            does not apply, the copy cannot be made, or PyTorch's build fails. The
            copy is kept in the last case only.
    """
    checkout = checkout.resolve()
    release = _release(checkout, patches_root)
    _check_destination(checkout, destination)
    laid = Series(release, patches_root, overlay_root)
    _prepare(checkout, destination, laid)
    wheel = _hand_over(destination, labeled(release, laid.label), arguments)
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
    if destination.exists() and not (destination / MARKER).is_file():
        raise ToolError(
            f"{destination} is in the way: it is not a copy that an earlier build made. "
            "Move it somewhere else."
        )


def _prepare(checkout: Path, destination: Path, laid: Series) -> None:
    """Put the patched copy in its place, once it is complete."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    with files.scratch(destination.parent) as scratch:
        copy = scratch / "copy"
        print(f"Copying {checkout} to {destination}", file=sys.stderr)
        shutil.copytree(
            checkout,
            copy,
            symlinks=True,
            ignore=lambda folder, names: _GENERATED if Path(folder) == checkout else (),
        )
        (copy / MARKER).write_text(
            "A copy that a build may replace.\n", encoding="utf-8"
        )
        series.apply(laid.patches, copy, laid.promises, name=str(checkout))
        for name, path in laid.overlay.items():
            target = copy / name
            if target.exists():
                raise ToolError(
                    f"The overlay's {path} is in {checkout} already, as {name}. Give a "
                    "checkout without changes."
                )
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        if destination.exists():
            destination.rename(scratch / "earlier")
        copy.rename(destination)


def _hand_over(copy: Path, version: str, arguments: Sequence[str]) -> Path:
    """Run PyTorch's own build in the copy, and say which wheel it made."""
    environment = dict(os.environ)
    environment.setdefault("PYTORCH_BUILD_VERSION", version)
    environment.setdefault("PYTORCH_BUILD_NUMBER", "1")
    print(f"Building in {copy}", file=sys.stderr)
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
