"""The patches, in order, and how they are applied to a plain folder."""

import email
import email.policy
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from tools import files, git, layout, releases
from tools.errors import ToolError


ORDER_FILE = "series"

#: A folder with a file for each release: what the series makes of which files.
BASES = "bases"

#: A folder with patches for files that no wheel has.
SOURCE_ONLY = "source-only"

#: Holds a number that each export raises, so that revisions can be ordered.
REVISION_FILE = "revision"

#: What the local version label of a patched torch has before its revision.
LABEL = "named"

#: What a line of the order file begins with above the patches of a section.
SECTION = "# == "

_DIFF = re.compile(r"^diff --git (.*)$", re.MULTILINE)
_PATHS = re.compile(r"a/(\S+) b/(\S+)\r?$")


@dataclass(frozen=True)
class Patch:
    """One file of the series.

    Attributes:
        name (str): the file name, the same for every release.
        path (Path): where the file for the release at hand lies.
    """

    name: str
    path: Path


@dataclass(frozen=True)
class Section:
    """Patches that make up one pull request.

    Attributes:
        title (str): its title, with the area as in a patch's subject.
        patches (list[Patch]): the patches, in order.
    """

    title: str
    patches: list[Patch]


@dataclass(frozen=True)
class _Entry:
    """A line of the order file.

    Attributes:
        name: the patch.
        oldest: the oldest release that has it; empty if all have it.
        section: the title above it; empty if there is none.
    """

    name: str
    oldest: str
    section: str


def patches(
    release: str = releases.DEFAULT, root: Path = layout.PATCHES
) -> list[Patch]:
    """The series for a release, in order.

    Args:
        release (str): the PyTorch release, e.g. ``"2.13.0"``.
        root (Path): the folder with the patches and the order file. Those in it
            are for the newest release. A folder in it that is named by another
            one holds what differs there and in all that are older, until an
            older one's folder has the patch, too.

    Returns:
        list[Patch]: the patches in the order of ``<root>/series``, without those
        that it gives to newer releases alone.

    Raises:
        ToolError: if the order file is missing or names a patch twice or one
            that does not exist, or a patch file is not listed in it.
    """
    since = order(root)
    folders = [root, *variant_folders(root)]
    for file in (file for folder in folders for file in sorted(folder.glob("*.patch"))):
        if file.name not in since:
            raise ToolError(
                f"{file} is not listed in {root / ORDER_FILE}. Add a line with its "
                "name, or remove the file."
            )
    places = sorted(
        (folder for folder in folders if _serves(folder.name, release)),
        key=lambda folder: releases.order(folder.name),
    )
    found = []
    for name, oldest in since.items():
        if oldest and releases.order(release) < releases.order(oldest):
            continue
        for folder in (*places, root):
            if (folder / name).is_file():
                found.append(Patch(name, folder / name))
                break
        else:
            raise ToolError(
                f"{root / ORDER_FILE} lists {name}, but there is no file "
                f"{root / name}. Restore the file, or remove the line."
            )
    return found


def variant_folders(root: Path = layout.PATCHES) -> list[Path]:
    """The folders of what differs in a release.

    Args:
        root (Path): the folder of the patches.

    Returns:
        list[Path]: those that are named by a release.
    """
    return [f for f in sorted(root.iterdir()) if f.is_dir() and releases.order(f.name)]


def source_only(root: Path = layout.PATCHES) -> list[Patch]:
    """The patches for files of upstream that no wheel has: tests and documentation.

    They are no part of what is built. Only a branch in a checkout gets them.

    Args:
        root (Path): the folder of the patches.

    Returns:
        list[Patch]: the patches, in order.
    """
    return [Patch(f.name, f) for f in sorted((root / SOURCE_ONLY).glob("*.patch"))]


def sections(
    release: str = releases.DEFAULT, root: Path = layout.PATCHES
) -> list[Section]:
    """The series for a release as a stack of pull requests.

    Args:
        release (str): the PyTorch release.
        root (Path): as in :func:`patches`.

    Returns:
        list[Section]: one for each title of the order file above which patches of
        the release stand. A patch above the first title is one of its own, with
        the patch's subject.

    Raises:
        ToolError: as :func:`patches`, or if two sections have the same title.
    """
    titles = section_titles(root)
    found: list[Section] = []
    for patch in patches(release, root):
        title = titles[patch.name]
        if found and title and title == found[-1].title:
            found[-1].patches.append(patch)
        elif title and title in (section.title for section in found):
            raise ToolError(
                f"{root / ORDER_FILE} has the title '{title}' twice. Patches of a "
                "section must follow each other: move a patch, or change a title."
            )
        else:
            found.append(Section(title or message(patch)[0], [patch]))
    return found


def section_titles(root: Path = layout.PATCHES) -> dict[str, str]:
    """The section that each patch belongs to.

    Args:
        root (Path): the folder of the patches.

    Returns:
        dict[str, str]: the patches' file names, in order, to the titles; empty
        above the first title.

    Raises:
        ToolError: as :func:`order`.
    """
    return {entry.name: entry.section for entry in _entries(root)}


def message(patch: Patch) -> tuple[str, str]:
    """What a patch says.

    Args:
        patch (Patch): the patch.

    Returns:
        (str, str): its subject, and the text below it.
    """
    _, _, mail = patch.path.read_bytes().partition(b"\n")
    subject = email.message_from_bytes(mail, policy=email.policy.default)["Subject"]
    head = re.split(rb"^(?:---$|diff --git )", mail, maxsplit=1, flags=re.MULTILINE)[0]
    text = git.text(head.partition(b"\n\n")[2]).strip()
    return re.sub(r"^\[PATCH[^]]*\] *", "", str(subject or "")), text


def _serves(folder: str, release: str) -> bool:
    """Whether a folder's variants are for a release, if no older folder has them."""
    return releases.order(folder) >= max(releases.order(release), (0,))


def order(root: Path = layout.PATCHES) -> dict[str, str]:
    """What the order file says.

    Args:
        root (Path): the folder of the patches.

    Returns:
        dict[str, str]: the patches' file names, in order, to the oldest release
        that has the patch; empty if all have it.

    Raises:
        ToolError: if the file is missing, or a line of it cannot be read.
    """
    return {entry.name: entry.oldest for entry in _entries(root)}


def _entries(root: Path) -> list[_Entry]:
    file = root / ORDER_FILE
    try:
        lines = files.text(file).splitlines()
    except FileNotFoundError as error:
        raise ToolError(
            f"The order file {file} is missing. It lists the patches, one file name "
            "a line."
        ) from error
    found: dict[str, _Entry] = {}
    section = ""
    for number, line in enumerate(lines, 1):
        if line.startswith(SECTION):
            section = line.removeprefix(SECTION).strip()
        name, _, comment = (part.strip() for part in line.partition("#"))
        if not name:
            continue
        if not name.endswith(".patch") or "/" in name or "\\" in name:
            raise ToolError(
                f"Line {number} of {file} is '{name}'; each line must be the name of "
                "a .patch file beside it."
            )
        if name in found:
            raise ToolError(f"{file} lists {name} twice; remove one of the lines.")
        oldest = re.match(r"since (\S+)", comment)
        found[name] = _Entry(name, oldest[1] if oldest else "", section)
    return [*found.values()]


def promises(
    release: str = releases.DEFAULT, root: Path = layout.PATCHES
) -> dict[str, tuple[str, str]]:
    """What the files that the series touches are before and after it.

    Args:
        release (str): the PyTorch release.
        root (Path): the folder of the patches; ``bases/<release>`` in it is read.

    Returns:
        dict[str, tuple[str, str]]: POSIX path to two git blob hashes; all zeros
        for no file.

    Raises:
        ToolError: if there is no such file, or a line of it cannot be read.
    """
    file = root / BASES / release
    try:
        lines = files.text(file).splitlines()
    except FileNotFoundError as error:
        raise ToolError(
            f"{file} is missing; it says what the series makes of PyTorch {release}. "
            f"Write it with 'python -m tools materialize --release {release}' and "
            "'python -m tools export'."
        ) from error
    found: dict[str, tuple[str, str]] = {}
    for number, line in enumerate(lines, 1):
        parts = re.fullmatch(r"([0-9a-f]{40}) ([0-9a-f]{40})  (\S+)", line)
        if parts is None:
            raise ToolError(
                f"Line {number} of {file} is not two hashes and a path. Restore the "
                "file, or write it anew with 'python -m tools export'."
            )
        found[parts[3]] = (parts[1], parts[2])
    return found


def promised(promises: Mapping[str, tuple[str, str]]) -> bytes:
    """The content of the file that :func:`promises` reads.

    Args:
        promises (Mapping[str, tuple[str, str]]): as that returns it.

    Returns:
        bytes: a line for each file, in the order of their paths.
    """
    lines = [f"{old} {new}  {path}\n" for path, (old, new) in sorted(promises.items())]
    return "".join(lines).encode()


def slug(name: str) -> str:
    """The name of a patch without its number.

    Args:
        name (str): the file name.

    Returns:
        str: what git made of the subject, and the suffix.
    """
    return re.sub(r"^\d+-", "", name)


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


def _diffs(patch: Patch) -> dict[str, str]:
    """Path to the text of its diff, for each file that a patch touches."""
    _, *parts = _DIFF.split(git.text(patch.path.read_bytes()))
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


def apply(
    patches: Sequence[Patch],
    folder: Path,
    promises: Mapping[str, tuple[str, str]],
    *,
    name: str | None = None,
) -> None:
    """Apply patches, in order, to a plain folder; all of them, or none.

    The folder need not be a git repository, and one that encloses it plays no
    part. Nor does the user's git configuration.

    Args:
        patches (Sequence[Patch]): the patches, first to last.
        folder (Path): the folder that holds ``torch/``. It is changed in place.
        promises (Mapping[str, tuple[str, str]]): what each touched file must be
            before and become, as :func:`promises` gives it for a release.
        name (str, optional): what errors call the folder, if it is a copy.

    Raises:
        ToolError: if a file is not what the patches are for, a patch does not
            apply or make of a file what is promised, or there is no ``git``.
            The folder is as it was.
    """
    _apply(patches, folder, promises, name or str(folder), back=False)


def reverse(
    patches: Sequence[Patch], folder: Path, promises: Mapping[str, tuple[str, str]]
) -> None:
    """Take patches back, last to first; all of them, or none.

    Args:
        patches (Sequence[Patch]): the patches as :func:`apply` takes them.
        folder (Path): the folder that holds ``torch/``. It is changed in place.
        promises (Mapping[str, tuple[str, str]]): as in :func:`apply`.

    Raises:
        ToolError: as :func:`apply`.
    """
    _apply(patches, folder, promises, str(folder), back=True)


def _apply(
    patches: Sequence[Patch],
    folder: Path,
    promises: Mapping[str, tuple[str, str]],
    name: str,
    *,
    back: bool,
) -> None:
    if not patches:
        return
    before: dict[str, bytes | None] = {}
    for path in touched_files(patches):
        if path not in promises:
            raise ToolError(
                f"A patch changes {path}, of which {BASES}/ says nothing. Write it "
                "anew with 'python -m tools export'."
            )
        before[path] = files.content(folder / path)
    start, end = (1, 0) if back else (0, 1)
    if wrong := [p for p in before if git.blob(before[p]) != promises[p][start]]:
        if all(git.blob(before[path]) == promises[path][end] for path in before):
            state = "are not applied to" if back else "are already applied to"
            raise ToolError(f"The patches {state} {name}; there is nothing to do.")
        raise ToolError(
            f"{wrong[0]} in {name} is not the file that the patches are for. Give an "
            "unchanged one. Nothing was changed."
        )
    # Git checks before it writes, but may still run out of space.
    with files.restored_on_failure(folder / path for path in before):
        # One input, not one argument a patch: git checks all of an input before
        # it writes, and with -R goes through it from the end.
        whole = b"\n".join(patch.path.read_bytes() for patch in patches)
        done = git.run(folder, "apply", *_direction(back), "-", stdin=whole)
        if done.returncode:
            problem = _first_problem(patches, before, back=back)
            raise ToolError(
                f"{problem or git.text(done.stderr).strip()} Nothing was changed."
            )
        # Of one input, git writes the changes to a file after its removal.
        for path in _removed_files(patches, back):
            (folder / path).unlink(missing_ok=True)
        for path in before:
            if git.blob(files.content(folder / path)) != promises[path][end]:
                raise ToolError(f"{broken(path, patches)} Nothing was changed.")


def broken(path: str, patches: Sequence[Patch]) -> str:
    """A sentence for a file of which patches do not make what is promised.

    Neither git's exit status nor that each hunk found a place says so: a patch
    may have lost a hunk.

    Args:
        path (str): the file.
        patches (Sequence[Patch]): the patches that were applied.

    Returns:
        str: the sentence, with the patches that change the file.
    """
    names = [patch.name for patch in patches if path in _diffs(patch)]
    return (
        f"{path} did not become what it must: {' or '.join(names)} was cut or edited. "
        "Restore it."
    )


def _removed_files(patches: Sequence[Patch], back: bool) -> list[str]:
    """The files that are not there once all patches are applied, or taken back."""
    mark = "\nnew file mode" if back else "\ndeleted file mode"
    final: dict[str, str] = {}
    for patch in reversed(patches) if back else patches:
        final.update(_diffs(patch))
    return [path for path, diff in final.items() if diff.startswith(mark)]


def _direction(back: bool) -> list[str]:
    return ["-R"] if back else []


def _first_problem(
    patches: Sequence[Patch], before: Mapping[str, bytes | None], *, back: bool
) -> str:
    """The first patch that does not apply, with file and hunk; empty if all do."""
    with files.scratch() as copy:
        for path, content in before.items():
            files.put(copy / path, content)
        for patch in reversed(patches) if back else patches:
            if problem := rejected(patch, copy, back=back):
                return problem
    return ""


def copy_files(source: Path, target: Path, paths: Sequence[str]) -> None:
    """Copy those of some files that exist.

    Args:
        source (Path): the folder to copy from.
        target (Path): the folder to copy to.
        paths (Sequence[str]): POSIX paths below both.
    """
    for path in paths:
        if (source / path).is_file():
            files.put(target / path, (source / path).read_bytes())


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

    Those are the Python files below ``torch/`` whose modules can be imported;
    what editors and systems leave beside them is not.

    Args:
        root (Path): the folder that mirrors the PyTorch tree.

    Returns:
        dict[str, Path]: POSIX path in the tree, e.g.
        ``"torch/optim/_names/keys.py"``, to the file; sorted.

    Raises:
        ToolError: if the folder does not exist, or one of the files, or a
            folder, is a link.
    """
    if not root.is_dir():
        raise ToolError(f"The overlay folder {root} does not exist; restore it.")
    found: dict[str, Path] = {}
    for file in sorted(root.rglob("*")):
        path = file.relative_to(root)
        if not is_module(path):
            continue
        if file.is_symlink():
            raise ToolError(
                f"{file} is a link; the overlay holds files. Put the file itself there."
            )
        if file.is_file() and path.suffix:
            found[path.as_posix()] = file
    return found


def is_module(path: PurePath) -> bool:
    """Whether a path is that of a module or package of the overlay.

    Args:
        path (PurePath): the path in PyTorch's tree.

    Returns:
        bool: True if it lies below ``torch/`` and could be imported.
    """
    return (
        path.parts[0] == "torch"
        and all(part.isidentifier() for part in path.with_suffix("").parts)
        and path.suffix in ("", ".py", ".pyi")
        and "__pycache__" not in path.parts
    )


def strays(
    patches_root: Path = layout.PATCHES, overlay_root: Path = layout.OVERLAY
) -> list[Path]:
    """Files in the folders of patches and overlay that belong to neither.

    Args:
        patches_root (Path): the folder of the patches.
        overlay_root (Path): the folder of the overlay.

    Returns:
        list[Path]: the files, sorted, without what the interpreter caches.
    """
    own = {*overlay_files(overlay_root).values()}
    listed = (ORDER_FILE, REVISION_FILE, releases.FILE, "relied-on")
    own |= {patches_root / name for name in listed}
    folders = [patches_root, *variant_folders(patches_root)]
    own |= {path for folder in folders for path in folder.glob("*.patch")}
    own |= {patch.path for patch in source_only(patches_root)}
    own |= {*(patches_root / BASES).glob("*")}
    return [
        file
        for root in (patches_root, overlay_root)
        for file in sorted(root.rglob("*"))
        if (file.is_symlink() or not file.is_dir())
        and file not in own
        and "__pycache__" not in file.parts
    ]


def revision_number(root: Path = layout.PATCHES) -> int:
    """The number that each export raises.

    Args:
        root (Path): the folder of the patches.

    Returns:
        int: the number; 0 before the first export.

    Raises:
        ToolError: if its file holds no number.
    """
    file = root / REVISION_FILE
    number = files.text(file).strip() if file.exists() else "0"
    if not number.isdecimal():
        raise ToolError(
            f"{file} holds {number!r}, not a number. Restore it, or after a merge, "
            "write the larger of the two."
        )
    return int(number)


def revision(
    patches: Sequence[Patch],
    overlay: Mapping[str, Path],
    root: Path = layout.PATCHES,
) -> str:
    """What tells this state of the series from every other one.

    As the end of a version, it makes a newer state the newer version.

    Args:
        patches (Sequence[Patch]): the patches.
        overlay (Mapping[str, Path]): the overlay, as :func:`overlay_files` gives
            it.
        root (Path): the folder with the number.

    Returns:
        str: the number, and a digest of patches and overlay: ``"8.g1a2b3c4d"``.
    """
    digest = hashlib.sha256()
    for name, path in [*((p.name, p.path) for p in patches), *overlay.items()]:
        content = path.read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    # As git does in "git describe"; digits alone would be taken for a number.
    return f"{revision_number(root)}.g{digest.hexdigest()[:8]}"


def label(revision: str) -> str:
    """The local version label of a torch that holds the series.

    Args:
        revision (str): what :func:`revision` returned.

    Returns:
        str: for example ``"named.8.g1a2b3c4d"``.
    """
    return f"{LABEL}.{revision}"
