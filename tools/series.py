"""The patches, in order, and how they are applied to a plain folder."""

import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tools import git, layout
from tools.base import BASE_RELEASE
from tools.errors import ToolError
from tools.files import restored_on_failure


ORDER_FILE = "series"

_DIFF = re.compile(r"^diff --git (.*)$", re.MULTILINE)
_PATHS = re.compile(r"a/(\S+) b/(\S+)\r?$")
_INDEX = re.compile(r"^index ([0-9a-f]+)\.\.([0-9a-f]+)", re.MULTILINE)


@dataclass(frozen=True)
class Patch:
    """One file of the series.

    Attributes:
        name (str): the file name, the same for every release.
        path (Path): where the file for the release at hand lies.
    """

    name: str
    path: Path


def patches(release: str = BASE_RELEASE, root: Path = layout.PATCHES) -> list[Patch]:
    """The series for a release, in order.

    Args:
        release (str): the PyTorch release, e.g. ``"2.13.0"``. For one other
            than the base release, a patch in ``<root>/<release>/`` takes the
            place of the common one of the same name.
        root (Path): the folder with the patches and the order file.

    Returns:
        list[Patch]: the patches in the order of ``<root>/series``.

    Raises:
        ToolError: if the order file is missing or names a patch twice or one
            that does not exist, or a patch file is not listed in it.
    """
    names = _ordered_names(root)
    listed = set(names)
    for folder in (
        root,
        *(entry for entry in sorted(root.iterdir()) if entry.is_dir()),
    ):
        unlisted = sorted(
            f.name for f in folder.glob("*.patch") if f.name not in listed
        )
        if unlisted:
            raise ToolError(
                f"{folder / unlisted[0]} is not listed in {root / ORDER_FILE}. Add a "
                "line with its name, or remove the file."
            )
    own = root / release
    series = []
    for name in names:
        variant = release != BASE_RELEASE and (own / name).is_file()
        path = own / name if variant else root / name
        if not path.is_file():
            raise ToolError(
                f"{root / ORDER_FILE} lists {name}, but there is no file {path}. "
                "Restore the file, or remove the line."
            )
        series.append(Patch(name, path))
    return series


def _ordered_names(root: Path) -> list[str]:
    order = root / ORDER_FILE
    try:
        lines = order.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise ToolError(
            f"The order file {order} is missing. It lists the patches, one file name "
            "a line."
        ) from error
    names: list[str] = []
    for number, line in enumerate(lines, 1):
        name = line.partition("#")[0].strip()
        if not name:
            continue
        if not name.endswith(".patch") or "/" in name or "\\" in name:
            raise ToolError(
                f"Line {number} of {order} is '{name}'; each line must be the name of "
                "a .patch file beside it."
            )
        if name in names:
            raise ToolError(f"{order} lists {name} twice; remove one of the lines.")
        names.append(name)
    return names


def touched_files(patches: Sequence[Patch]) -> list[str]:
    """The files that patches change, create or remove.

    Args:
        patches (Sequence[Patch]): the patches.

    Returns:
        list[str]: POSIX paths below the root of the tree, sorted.

    Raises:
        ToolError: if a patch cannot be read, or changes no file.
    """
    return sorted({path for patch in patches for path in _diffs(patch)})


def base_blobs(patches: Sequence[Patch]) -> dict[str, str]:
    """The git blob hashes that the touched files have before the series.

    Args:
        patches (Sequence[Patch]): the series, in order.

    Returns:
        dict[str, str]: POSIX path to the SHA-1 in the index line of the first
        patch that touches the file; all zeros for a file that a patch creates.

    Raises:
        ToolError: if a patch cannot be read or has no full index line.
    """
    blobs: dict[str, str] = {}
    for patch in patches:
        for path, diff in _diffs(patch).items():
            index = _INDEX.search(diff)
            if index is None or len(index[1]) != 40:
                raise ToolError(
                    f"{patch.path} has no full index line for {path}. Write it anew "
                    "with 'python -m tools export'."
                )
            blobs.setdefault(path, index[1])
    return blobs


def _diffs(patch: Patch) -> dict[str, str]:
    """Path to the text of its diff, for each file that a patch touches."""
    try:
        text = git.text(patch.path.read_bytes())
    except OSError as error:
        raise ToolError(f"{patch.path} cannot be read: {error.strerror}.") from error
    _, *parts = _DIFF.split(text)
    diffs: dict[str, str] = {}
    for header, diff in zip(parts[::2], parts[1::2]):
        paths = _PATHS.fullmatch(header)
        if paths is None:
            raise ToolError(
                f"{patch.path} has a line 'diff --git {header}' that cannot be read; "
                "paths must be without blanks and quotes."
            )
        for path in paths.groups():
            diffs[path] = diff
    if not diffs:
        raise ToolError(
            f"{patch.path} changes no file; write it anew with 'python -m tools export'"
            " or take it out of the series."
        )
    return diffs


def apply(patches: Sequence[Patch], folder: Path) -> None:
    """Apply patches, in order, to a plain folder; all of them, or none.

    The folder need not be a git repository, and one that encloses it plays no
    part. Nor does the user's git configuration.

    Args:
        patches (Sequence[Patch]): the patches, first to last.
        folder (Path): the folder that holds ``torch/``. It is changed in place.

    Raises:
        ToolError: if a patch does not apply (the message names patch, file and
            hunk; the folder is as it was), or there is no ``git``.
    """
    _apply(patches, folder, back=False)


def reverse(patches: Sequence[Patch], folder: Path) -> None:
    """Take patches back, last to first; all of them, or none.

    Args:
        patches (Sequence[Patch]): the patches as :func:`apply` takes them.
        folder (Path): the folder that holds ``torch/``. It is changed in place.

    Raises:
        ToolError: as :func:`apply`.
    """
    _apply(patches, folder, back=True)


def _apply(patches: Sequence[Patch], folder: Path, *, back: bool) -> None:
    if not patches:
        return
    touched = touched_files(patches)
    # Git checks before it writes, but may still run out of space.
    with restored_on_failure(folder / path for path in touched):
        # One input, not one argument a patch: git checks all of an input before
        # it writes, and with -R goes through it from the end.
        series = b"\n".join(patch.path.read_bytes() for patch in patches)
        done = git.run(folder, "apply", *_direction(back), "-", stdin=series)
        if done.returncode:
            raise _failure(patches, folder, touched, back, git.text(done.stderr))
        # Of one input, git writes the changes to a file after its removal.
        for path in _removed_files(patches, back):
            (folder / path).unlink(missing_ok=True)


def _removed_files(patches: Sequence[Patch], back: bool) -> list[str]:
    """The files that are not there once all patches are applied, or taken back."""
    mark = "\nnew file mode" if back else "\ndeleted file mode"
    final: dict[str, str] = {}
    for patch in reversed(patches) if back else patches:
        final.update(_diffs(patch))
    return [path for path, diff in final.items() if diff.startswith(mark)]


def _direction(back: bool) -> list[str]:
    return ["-R"] if back else []


def _failure(
    patches: Sequence[Patch],
    folder: Path,
    touched: Sequence[str],
    back: bool,
    complaint: str,
) -> ToolError:
    """The error for a series that git refused: patch, file and hunk."""
    whole = "taken back from" if back else "applied to"
    with tempfile.TemporaryDirectory() as throwaway:
        copy = Path(throwaway)
        copy_files(folder, copy, touched)
        series = b"\n".join(patch.path.read_bytes() for patch in patches)
        other = git.run(
            copy, "apply", "--check", *_direction(not back), "-", stdin=series
        )
        if other.returncode == 0:
            state = "are not applied to" if back else "are already applied to"
            return ToolError(f"The patches {state} {folder}; there is nothing to do.")
        for patch in reversed(patches) if back else patches:
            problem = rejected(patch, copy, back=back)
            if problem:
                return ToolError(
                    f"The series cannot be {whole} {folder}: {problem} Nothing was "
                    "changed."
                )
    return ToolError(
        f"The series cannot be {whole} {folder}; nothing was changed. git says: "
        f"{complaint.strip()}"
    )


def copy_files(source: Path, target: Path, paths: Sequence[str]) -> None:
    """Copy those of some files that exist.

    Args:
        source (Path): the folder to copy from.
        target (Path): the folder to copy to.
        paths (Sequence[str]): POSIX paths below both.
    """
    for path in paths:
        if (source / path).is_file():
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / path, target / path)


def rejected(patch: Patch, folder: Path, *, back: bool = False) -> str:
    """Apply one patch as far as it goes, and say where it does not.

    Args:
        patch (Patch): the patch.
        folder (Path): a throwaway folder; it is changed even on failure.
        back (bool): whether to take the patch back instead.

    Returns:
        str: empty if the patch applies, else a sentence that names the patch,
        its first file that refuses, and the numbers of the rejected hunks.
    """
    options = ("--reject", "--verbose", *_direction(back))
    diff = patch.path.read_bytes()
    done = git.run(folder, "apply", *options, "-", stdin=diff)
    if done.returncode == 0:
        return ""
    direction = "cannot be taken back" if back else "does not apply"
    place = _first_rejection(git.text(done.stdout + done.stderr))
    return f"Patch {patch.name} {direction}: {place}."


def _first_rejection(report: str) -> str:
    """Where git apply --reject --verbose first failed, in words."""
    path = ""
    hunks: list[str] = []
    for line in report.splitlines():
        if found := re.fullmatch(r"Applying patch (.+) with \d+ rejects?\.\.\.", line):
            if hunks:
                break
            path = found[1]
        elif found := re.fullmatch(r"Rejected hunk #(\d+)\.", line):
            hunks.append(found[1])
    if hunks:
        noun = "hunk" if len(hunks) == 1 else "hunks"
        return f"{noun} {', '.join(hunks)} of {path} found no place"
    if found := re.search(r"^error: (.+): No such file or directory$", report, re.M):
        return f"there is no file {found[1]}"
    if found := re.search(r"^error: (.+): already exists", report, re.M):
        return f"the file {found[1]} is there already"
    errors = re.findall(r"^(?:error|fatal): (.+)$", report, re.M)
    return "; ".join(errors) or "git gave no reason"


def overlay_files(root: Path = layout.OVERLAY) -> dict[str, Path]:
    """The new files that are laid over PyTorch.

    Args:
        root (Path): the folder that mirrors the PyTorch tree.

    Returns:
        dict[str, Path]: POSIX path in the tree, e.g.
        ``"torch/optim/_names/keys.py"``, to the file; sorted, without what the
        interpreter caches.

    Raises:
        ToolError: if the folder does not exist.
    """
    if not root.is_dir():
        raise ToolError(f"The overlay folder {root} does not exist; restore it.")
    return {
        file.relative_to(root).as_posix(): file
        for file in sorted(root.rglob("*"))
        if file.is_file() and "__pycache__" not in file.parts
    }
