"""The commits of a materialized tree, back to patches and overlay."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tools import files, git, layout, releases, series, variants
from tools.errors import ToolError
from tools.releases import Release
from tools.tree import (
    AUTHOR,
    BASE,
    BRANCH,
    EMAIL,
    EXPORTED,
    NO_TREE,
    PORT,
    TREE,
    blob_contents,
    is_tree,
    made_from,
    materialize,
    release_of,
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
        promises (dict[str, tuple[str, str]]): POSIX path of each file that the
            patches touch to its git blob hash before and after them.
        python (str): if the tree is a port, the oldest Python of its release,
            else empty. What differs in a port is for its release alone.
    """

    release: str
    patches: dict[str, bytes]
    overlay: dict[str, bytes]
    messages: list[str]
    promises: dict[str, tuple[str, str]]
    python: str = ""


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
    changed = _changed(tree, before)
    return Export(
        release_of(tree),
        _format_patches(tree, changed),
        dict(zip(overlay, blob_contents(tree, specs))),
        _messages(tree, changed),
        dict(
            zip(
                changed,
                zip(_hashes(tree, BASE, changed), _hashes(tree, "HEAD", changed)),
            )
        ),
        git.text(git.run(tree, "config", PORT).stdout).strip(),
    )


def _hashes(tree: Path, commit: str, paths: Sequence[str]) -> list[str]:
    """The blob hashes of files in a commit; all zeros for no file."""
    found: dict[str, str] = {}
    for entry in git.split(git.output(tree, "ls-tree", "-r", "-z", commit)):
        meta, path = entry.split("\t", 1)
        found[path] = meta.split()[2]
    return [found.get(path, git.blob(None)) for path in paths]


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


def formatted(tree: Path, commits: str, paths: Sequence[str] = ()) -> dict[str, bytes]:
    """The patches of commits.

    Args:
        tree (Path): a git repository.
        commits (str): a range of commits.
        paths (Sequence[str]): files to which the patches are limited; git leaves
            out commits that touch none.

    Returns:
        dict[str, bytes]: file name to content, in order.
    """
    with files.scratch() as folder:
        to = f"--output-directory={folder}"
        git.output(tree, "format-patch", "--quiet", *_FORMAT, to, commits, "--", *paths)
        return {p.name: p.read_bytes() for p in sorted(folder.glob("*.patch"))}


def _format_patches(tree: Path, changed: Sequence[str]) -> dict[str, bytes]:
    patches = formatted(tree, f"{BASE}..HEAD", changed) if changed else {}
    for number, name in enumerate(patches, 1):
        if not series.slug(name).removesuffix(".patch"):
            raise ToolError(
                f"Commit {number} of the series has a subject without a Latin letter or "
                f"a digit, of which the name of its file could be made ({name}). Give "
                "it another subject with 'git rebase -i' and 'reword'."
            )
    return patches


def _messages(tree: Path, changed: Sequence[str]) -> list[str]:
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
                exact=False,
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
            names = series.touched_files(series.patches(exported.release, patches))
            touched = [name for name in names if name in before]
            contents = blob_contents(tree, [f"{BASE}:{name}" for name in touched])
            sources = dict(zip(touched, contents))
            again = round_trip(sources, exported.release, patches, overlay)
        except ToolError as error:
            raise ToolError(
                f"The commits would not come back from their patches: {error} "
                f"{_MESSAGE_ADVICE}"
            ) from error
    if (again.patches, again.messages, again.overlay) == (
        exported.patches,
        exported.messages,
        exported.overlay,
    ):
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

    What was changed, added or taken out in a tree is so in all releases that have
    the same patch. What differs in a port is for its release alone, and goes into
    a folder of it; of a port to the newest release, what the others had before
    goes into a folder of theirs.

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
            would not come back from its patches, or if files that would be
            replaced have been changed since the tree was made. Nothing is
            written then.
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
    git.run(tree, "config", "--unset", PORT)
    state |= {path: git.blob(new) for path, new in contents.items()}
    write_made_from(tree, state, patches_root, overlay_root)
    return changed


def apart(
    tree: Path = TREE, *, patches_root: Path = layout.PATCHES
) -> dict[str, list[str]]:
    """The releases whose variants an export will leave as they are.

    Args:
        tree (Path): the materialized tree.
        patches_root (Path): the folder of the patches.

    Returns:
        dict[str, list[str]]: as :func:`tools.variants.apart`; empty for a port.

    Raises:
        ToolError: as :func:`read`.
    """
    exported = read(tree)
    every = variants.read(patches_root, releases.supported(patches_root))
    if exported.python or exported.release not in every:
        return {}
    mine = {series.slug(name): content for name, content in exported.patches.items()}
    return variants.apart(every, exported.release, mine)


def refresh(
    release: str,
    sources: Mapping[str, bytes],
    tree: Path = TREE,
    *,
    patches_root: Path = layout.PATCHES,
    overlay_root: Path = layout.OVERLAY,
) -> list[Path]:
    """Write for a release what an export from a tree of another one could not.

    That is what the series makes of its files, and the line numbers in patches.

    Args:
        release (str): the release.
        sources (Mapping[str, bytes]): its files that patches touch, or all.
        tree (Path): the tree that was exported.
        patches_root (Path): the folder of the patches.
        overlay_root (Path): the folder of the overlay.

    Returns:
        list[Path]: the files that were written.

    Raises:
        ToolError: if a patch does not apply to this release.
    """
    exported = round_trip(sources, release, patches_root, overlay_root)
    contents = changes(exported, patches_root=patches_root, overlay_root=overlay_root)
    changed = files.replace(contents)
    state = made_from(tree, patches_root, overlay_root)
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
    supported = releases.supported(patches_root)
    every = variants.read(patches_root, supported)
    mine = {series.slug(name): content for name, content in exported.patches.items()}
    if len(mine) < len(exported.patches):
        raise ToolError(
            "Two commits have the same subject. Give one of them another one with "
            "'git rebase -i' and 'reword'."
        )
    version = exported.release
    if exported.python:
        every[version] = mine
        if version not in (release.version for release in supported):
            major, minor = exported.python.split(".")
            supported.append(Release(version, (int(major), int(minor))))
    elif version in every:
        every = variants.edited(every, version, mine)
    else:
        releases.find(version, patches_root)
    before = [series.slug(name) for name in series.order(patches_root)]
    alive = {slug for slugs in every.values() for slug in slugs}
    slugs = variants.merged(before, list(mine), alive)
    contents = {
        **variants.contents(every, slugs, patches_root),
        **_overlay(exported, overlay_root),
        patches_root / releases.FILE: releases.listed(supported),
    }
    if exported.promises:
        promised = series.promised(exported.promises)
        contents[patches_root / series.BASES / version] = promised
    return {p: new for p, new in contents.items() if files.content(p) != new}


def _overlay(exported: Export, root: Path) -> dict[Path, bytes | None]:
    stale: dict[Path, bytes | None] = {
        file: None
        for path, file in series.overlay_files(root).items()
        if path not in exported.overlay
    }
    return {**stale, **{root / p: content for p, content in exported.overlay.items()}}


def _remove_empty(folder: Path, keep: set[Path]) -> None:
    """Remove a folder that an export emptied, and its parents likewise."""
    while folder not in keep and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
