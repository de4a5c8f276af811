"""The commits of a materialized tree, back to patches and overlay."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tools import files, git, layout, series
from tools.base import BASE_RELEASE
from tools.errors import ToolError
from tools.tree import (
    AUTHOR,
    BASE,
    BRANCH,
    EMAIL,
    EXPORTED,
    NO_TREE,
    TREE,
    blob_contents,
    is_tree,
    made_from,
    materialize,
    state_of_series,
    uncommitted_work,
    write_made_from,
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


_MESSAGE_ADVICE = (
    "A message has one line as its subject, without '[PATCH]', a blank line, and text "
    "in which no line starts with '---', 'diff ' or 'Index: '; change it with 'git "
    "rebase -i' and 'reword'."
)

#: So many files are named in an error.
_MOST_NAMES = 10


@dataclass(frozen=True)
class Export:
    """What the commits of a tree amount to.

    Attributes:
        release (str): the release the tree was made for.
        patches (dict[str, bytes]): file name to content, in order.
        overlay (dict[str, bytes]): POSIX path in the tree to content.
        messages (list[str]): the commits' messages, one for each patch.
    """

    release: str
    patches: dict[str, bytes]
    overlay: dict[str, bytes]
    messages: list[str]


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
        raise ToolError(NO_TREE.format(tree))
    if problem := uncommitted_work(tree):
        raise ToolError(f"{tree} {problem}. Commit or undo it, then export again.")
    _check_commits(tree)
    before = set(_names(tree, "ls-tree", "-r", BASE))
    after = _names(
        tree, "diff-tree", "-r", "--no-renames", "--diff-filter=d", BASE, "HEAD"
    )
    overlay = [name for name in after if name not in before]
    _check_overlay(overlay)
    specs = [f"HEAD:{name}" for name in overlay]
    return Export(
        git.output(tree, "config", "optimNames.release").strip(),
        _format_patches(tree, before),
        dict(zip(overlay, blob_contents(tree, specs))),
        _messages(tree, before),
    )


def _check_overlay(paths: Sequence[str]) -> None:
    for path in paths:
        if not series.is_module(PurePosixPath(path)):
            raise ToolError(
                f"{path} is new in the tree, but the overlay holds Python files below "
                "torch/ only. Take it out of the commit that adds it."
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
    changed = _changed(tree, base_files)
    if not changed:
        return {}
    with files.scratch() as folder:
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
        patches = {p.name: p.read_bytes() for p in sorted(folder.glob("*.patch"))}
    for number, name in enumerate(patches, 1):
        if not series.slug(name).removesuffix(".patch"):
            raise ToolError(
                f"Commit {number} of the series has a subject without a Latin letter or "
                f"a digit, of which the name of its file could be made ({name}). Give "
                "it another subject with 'git rebase -i' and 'reword'."
            )
    return patches


def _messages(tree: Path, base_files: set[str]) -> list[str]:
    changed = _changed(tree, base_files)
    if not changed:
        return []
    entries = ("log", "-z", "--reverse", "--no-renames", "--format=%B%x1f")
    log = git.output(tree, *entries, f"{BASE}..HEAD", "--", *changed)
    return [entry.rstrip("\x1f\n") for entry in git.split(log)]


def _changed(tree: Path, base_files: set[str]) -> list[str]:
    """The base's files that a commit changes."""
    log = _names(tree, "log", "--format=", "--no-renames", f"{BASE}..HEAD")
    return sorted(base_files.intersection(log))


def round_trip(
    sources: Mapping[str, bytes],
    release: str,
    patches_root: Path,
    overlay_root: Path,
) -> Export:
    """What a series is after it was materialized and exported.

    Args:
        sources (Mapping[str, bytes]): the base's files; those that no patch
            touches play no part.
        release (str): the release.
        patches_root (Path): the folder of the patches.
        overlay_root (Path): the folder of the overlay.

    Returns:
        Export: what comes out.

    Raises:
        ToolError: if it cannot be materialized or exported.
    """
    touched = series.touched_files(series.patches(release, patches_root))
    with files.scratch() as folder:
        tree = folder / "tree"
        try:
            materialize(
                {path: sources[path] for path in touched if path in sources},
                tree,
                release=release,
                patches_root=patches_root,
                overlay_root=overlay_root,
            )
            return read(tree)
        except ToolError as error:
            raise ToolError(str(error).replace(str(tree), "the tree")) from error


def _refuse_what_does_not_come_back(tree: Path, exported: Export) -> None:
    """Raise if the patches would not give the commits that they were made of."""
    before = {*_names(tree, "ls-tree", "-r", BASE)}
    with files.scratch() as folder:
        patches, overlay = folder / "patches", folder / "overlay"
        overlay.mkdir()
        order = "".join(f"{name}\n" for name in exported.patches).encode()
        files.put(patches / series.ORDER_FILE, order)
        for name, content in exported.patches.items():
            files.put(patches / name, content)
        for name, content in exported.overlay.items():
            files.put(overlay / name, content)
        try:
            names = series.touched_files(series.patches(root=patches))
            touched = [name for name in names if name in before]
            contents = blob_contents(tree, [f"{BASE}:{name}" for name in touched])
            sources = dict(zip(touched, contents))
            again = round_trip(sources, exported.release, patches, overlay)
        except ToolError as error:
            raise ToolError(
                f"The commits would not come back from their patches: {error} "
                f"{_MESSAGE_ADVICE}"
            ) from error
    if again == exported:
        return
    for (name, content), message, other in zip(
        exported.patches.items(), exported.messages, again.messages
    ):
        if again.patches.get(name) != content or message != other:
            subject = message.partition("\n")[0]
            raise ToolError(
                f"Commit '{subject}' would not come back from {name} as it is. "
                f"{_MESSAGE_ADVICE}"
            )
    raise ToolError(
        f"The commits would not come back from their patches. {_MESSAGE_ADVICE}"
    )


def export(
    tree: Path = TREE,
    *,
    release: str | None = None,
    patches_root: Path = layout.PATCHES,
    overlay_root: Path = layout.OVERLAY,
    force: bool = False,
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
        force (bool): whether to replace also what was changed in both folders
            since the tree was made.

    Returns:
        list[Path]: the files that were written or removed; none if nothing
        differed.

    Raises:
        ToolError: as :func:`read`, or if the tree is for another release,
            changes for one release what is common to all, would not come back
            from its patches, or if files that would be replaced have been
            changed since the tree was made. Nothing is written then.
    """
    exported = read(tree)
    if release not in (None, exported.release):
        raise ToolError(
            f"{tree} was made for PyTorch {exported.release}, not {release}; run "
            f"'python -m tools materialize --release {release}'."
        )
    state = state_of_series(patches_root, overlay_root)
    contents = changes(exported, patches_root=patches_root, overlay_root=overlay_root)
    if not force:
        _refuse_to_lose(contents, state, made_from(tree, patches_root, overlay_root))
    if contents:
        _refuse_what_does_not_come_back(tree, exported)
        number = series.revision_number(patches_root) + 1
        contents[patches_root / series.REVISION_FILE] = b"%d\n" % number
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
    state |= {path: git.blob(new) for path, new in contents.items()}
    write_made_from(tree, state, patches_root, overlay_root)
    return changed


def _refuse_to_lose(
    contents: Mapping[Path, bytes | None],
    state: Mapping[Path, str],
    made_from: Mapping[Path, str],
) -> None:
    """Raise if an export would undo what was not made in the tree."""
    gone = git.blob(None)
    lost = [
        str(path)
        for path in contents
        if state.get(path, gone) != made_from.get(path, gone)
    ]
    if lost:
        named = ", ".join(lost[:_MOST_NAMES])
        more = f" and {len(lost) - _MOST_NAMES} more" if len(lost) > _MOST_NAMES else ""
        raise ToolError(
            "An export would undo what was changed in the repository since the tree "
            f"was made: {named}{more}. Make a second tree with 'python -m tools "
            "materialize --into build/second', and bring your work there as "
            "CONTRIBUTING.md says; or, if these changes may go, run 'python -m tools "
            "export --force'."
        )


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
        order: ordered(
            files.text(order) if order.exists() else "", list(exported.patches)
        ),
    }


def ordered(before: str, names: Sequence[str]) -> bytes:
    """The content of the order file.

    Args:
        before (str): its text so far. Comments that begin the file are
            kept; so are those above a patch's line and on it, as long as the
            patch keeps its subject.
        names (Sequence[str]): the patches' file names, in order.

    Returns:
        bytes: one name a line.
    """
    header, lines = _split_header(before.splitlines())
    comments: dict[str, tuple[list[str], str]] = {}
    block: list[str] = []
    for line in lines:
        name, mark, comment = line.partition("#")
        if name.strip():
            comments[series.slug(name.strip())] = (block, mark + comment)
            block = []
        else:
            block.append(line)
    result = header
    for name in names:
        above, beside = comments.get(series.slug(name), ([], ""))
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
