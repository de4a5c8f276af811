"""The commits of a materialized tree, back to patches and overlay."""

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tools import files, git, layout, series
from tools.base import BASE_RELEASE
from tools.errors import ToolError
from tools.tree import (
    AUTHOR,
    BASE,
    BRANCH,
    EMAIL,
    EXPORTED,
    TREE,
    blob_contents,
    is_tree,
    uncommitted_work,
)


_FORMAT = (
    "--zero-commit",
    "--no-signature",
    "--subject-prefix=PATCH",
    "--no-numbered",
    "--no-from",
    "--no-to",
    "--no-cc",
    "--no-add-header",
    "--no-attach",
    "--no-base",
    "--no-cover-letter",
    "--no-notes",
    "--no-signoff",
    "--no-thread",
    "--encode-email-headers",
    "--suffix=.patch",
    "--filename-max-length=64",
    "--no-stat",
    "--unified=3",
    "--inter-hunk-context=0",
    "--full-index",
    "--no-renames",
    "--no-ext-diff",
    "--no-textconv",
    "--no-color",
    "--no-relative",
    "--diff-algorithm=histogram",
    "--indent-heuristic",
    "--src-prefix=a/",
    "--dst-prefix=b/",
)


@dataclass(frozen=True)
class Export:
    """What the commits of a tree amount to.

    Attributes:
        release (str): the release the tree was made for.
        patches (dict[str, bytes]): file name to content, in order.
        overlay (dict[str, bytes]): POSIX path in the tree to content.
    """

    release: str
    patches: dict[str, bytes]
    overlay: dict[str, bytes]


def read(tree: Path = TREE) -> Export:
    """Read patches and overlay from the commits of a tree.

    Args:
        tree (Path): the materialized tree.

    Returns:
        Export: the same for the same commits, whatever git's configuration.

    Raises:
        ToolError: if there is no tree, its work is not all committed, or a
            commit is not fit to become a patch; the message names the commit.
    """
    if not is_tree(tree):
        raise ToolError(
            f"{tree} is not a materialized tree; run 'python -m tools materialize'."
        )
    if problem := uncommitted_work(tree):
        raise ToolError(f"{tree} {problem}. Commit or undo it, then export again.")
    _check_commits(tree)
    before = set(_names(tree, "ls-tree", "-r", BASE))
    after = _names(
        tree, "diff-tree", "-r", "--no-renames", "--diff-filter=d", BASE, "HEAD"
    )
    overlay = [name for name in after if name not in before]
    specs = [f"HEAD:{name}" for name in overlay]
    return Export(
        git.output(tree, "config", "optimNames.release").strip(),
        _format_patches(tree, before),
        dict(zip(overlay, blob_contents(tree, specs))),
    )


def _names(tree: Path, *arguments: str) -> list[str]:
    return list(git.split(git.output(tree, *arguments, "-z", "--name-only")))


def _check_commits(tree: Path) -> None:
    if git.run(tree, "merge-base", "--is-ancestor", BASE, "HEAD").returncode:
        raise ToolError(
            f"HEAD of {tree} does not descend from the tag base; check out the branch "
            f"{BRANCH}."
        )
    entries = "%h%x1f%p%x1f%an <%ae>%x1f%s"
    log = git.output(tree, "log", "-z", f"--format={entries}", f"{BASE}..HEAD")
    for entry in git.split(log):
        commit, parents, author, subject = entry.split("\x1f")
        name = f"Commit {commit} '{subject}'"
        if len(parents.split()) > 1:
            raise ToolError(f"{name} is a merge; a series is linear. Rebase it away.")
        if re.match(r"(fixup|squash|amend)! ", subject):
            raise ToolError(
                f"{name} is not folded in yet; run 'git rebase -i --autosquash "
                f"tags/base' in {tree}."
            )
        if author != f"{AUTHOR} <{EMAIL}>":
            raise ToolError(
                f"{name} is by {author}; the author must be '{AUTHOR} <{EMAIL}>'. At "
                "this commit of an interactive rebase, run 'git commit --amend "
                "--no-edit --reset-author'."
            )


def _format_patches(tree: Path, base_files: set[str]) -> dict[str, bytes]:
    log = _names(tree, "log", "--format=", "--no-renames", f"{BASE}..HEAD")
    changed = sorted(base_files.intersection(log))
    if not changed:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        # Limited to the base's files: git leaves out commits that touch none.
        git.output(
            tree,
            "format-patch",
            "--quiet",
            *_FORMAT,
            f"--output-directory={folder}",
            f"{BASE}..HEAD",
            "--",
            *changed,
        )
        written = sorted(Path(folder).glob("*.patch"))
        return {patch.name: patch.read_bytes() for patch in written}


def export(
    tree: Path = TREE,
    *,
    release: str | None = None,
    patches_root: Path = layout.PATCHES,
    overlay_root: Path = layout.OVERLAY,
) -> list[Path]:
    """Write the commits of a tree back to the patches and the overlay.

    For a release other than the base release, only the patches that differ
    from the common ones in a hunk or in their message are written, into a
    folder of the release.

    Args:
        tree (Path): the materialized tree.
        release (str, optional): the release that the tree is meant to be for;
            by default the one it was made for.
        patches_root (Path): the folder of the patches.
        overlay_root (Path): the folder of the overlay.

    Returns:
        list[Path]: the files that were written or removed; none if nothing
        differed.

    Raises:
        ToolError: as :func:`read`, or if the tree is for another release, or
            changes for one release what is common to all. Nothing is written
            then.
    """
    exported = read(tree)
    if release not in (None, exported.release):
        raise ToolError(
            f"{tree} was made for PyTorch {exported.release}, not {release}; run "
            f"'python -m tools materialize --release {release}'."
        )
    contents = changes(exported, patches_root=patches_root, overlay_root=overlay_root)
    try:
        changed = files.replace(contents)
    except OSError as error:
        raise ToolError(
            f"The series cannot be written: {error}. It is as it was."
        ) from error
    for path, new in contents.items():
        if new is None:
            _remove_empty(path.parent, {patches_root, overlay_root})
    git.output(tree, "update-ref", EXPORTED, "HEAD")
    return changed


def changes(
    exported: Export,
    *,
    patches_root: Path = layout.PATCHES,
    overlay_root: Path = layout.OVERLAY,
) -> dict[Path, bytes | None]:
    """What an export would write.

    Args:
        exported (Export): what :func:`read` returned.
        patches_root (Path): the folder of the patches.
        overlay_root (Path): the folder of the overlay.

    Returns:
        dict[Path, bytes or None]: new content of each file that differs;
        ``None`` for a file to remove.

    Raises:
        ToolError: as :func:`export`.
    """
    if exported.release == BASE_RELEASE:
        contents = {
            **_common_patches(exported, patches_root),
            **_overlay(exported, overlay_root),
        }
    else:
        contents = _variants(exported, patches_root, overlay_root)
    return {p: new for p, new in contents.items() if files.content(p) != new}


def _common_patches(exported: Export, root: Path) -> dict[Path, bytes | None]:
    order = root / series.ORDER_FILE
    stale: dict[Path, bytes | None] = {
        path: None for path in root.glob("*.patch") if path.name not in exported.patches
    }
    return {
        **stale,
        **{root / name: content for name, content in exported.patches.items()},
        order: ordered(files.content(order) or b"", list(exported.patches)),
    }


def ordered(before: bytes, names: Sequence[str]) -> bytes:
    """The content of the order file.

    Args:
        before (bytes): its content so far. Comments that begin the file are
            kept; so are those above a patch's line and on it, as long as the
            patch keeps its subject.
        names (Sequence[str]): the patches' file names, in order.

    Returns:
        bytes: one name a line.
    """
    header, lines = _split_header(before.decode("utf-8").splitlines())
    comments: dict[str, tuple[list[str], str]] = {}
    block: list[str] = []
    for line in lines:
        name, mark, comment = line.partition("#")
        if name.strip():
            comments[_slug(name.strip())] = (block, mark + comment)
            block = []
        else:
            block.append(line)
    result = header
    for name in names:
        above, beside = comments.get(_slug(name), ([], ""))
        result += [*above, f"{name}  {beside}".rstrip()]
    return "".join(f"{line}\n" for line in [*result, *block]).encode("utf-8")


def _split_header(lines: Sequence[str]) -> tuple[list[str], list[str]]:
    """The comments that the file begins with, up to a blank line, and the rest."""
    for number, line in enumerate(lines):
        if not line.strip():
            return list(lines[: number + 1]), list(lines[number + 1 :])
        if not line.startswith("#"):
            return list(lines[:number]), list(lines[number:])
    return list(lines), []


def _slug(name: str) -> str:
    return re.sub(r"^\d+-", "", name)


def _overlay(exported: Export, root: Path) -> dict[Path, bytes | None]:
    stale: dict[Path, bytes | None] = {
        file: None
        for path, file in series.overlay_files(root).items()
        if path not in exported.overlay
    }
    return {**stale, **{root / p: content for p, content in exported.overlay.items()}}


def _variants(
    exported: Export, patches_root: Path, overlay_root: Path
) -> dict[Path, bytes | None]:
    """The patches of one release that differ from the common ones."""
    advice = (
        f"A tree for PyTorch {exported.release} may differ in its hunks only. Make "
        f"this change in a tree for PyTorch {BASE_RELEASE} first."
    )
    common = {p.name: p.path.read_bytes() for p in series.patches(root=patches_root)}
    if list(common) != list(exported.patches):
        names = sorted(set(common) ^ set(exported.patches)) or list(exported.patches)
        raise ToolError(f"The series has other patches here ({names[0]}). {advice}")
    for path, content in _overlay(exported, overlay_root).items():
        if files.content(path) != content:
            raise ToolError(f"The overlay file {path} would change. {advice}")
    own = patches_root / exported.release
    stale: dict[Path, bytes | None] = dict.fromkeys(own.glob("*.patch"))
    return {
        **stale,
        **{
            own / name: content
            for name, content in exported.patches.items()
            if _change(content) != _change(common[name])
        },
    }


def _change(patch: bytes) -> bytes:
    """A patch without what depends on the rest of the files it touches."""
    numbers = rb"^(?:index [0-9a-f]+\.\.[0-9a-f]+|@@ -[\d,]+ \+[\d,]+ @@.*)"
    return re.sub(numbers, b"", patch, flags=re.MULTILINE)


def _remove_empty(folder: Path, keep: set[Path]) -> None:
    """Remove a folder that an export emptied, and its parents likewise."""
    while folder not in keep and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
