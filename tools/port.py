"""The series on a release that it is not made for, by git's three-way merge.

The tree first holds the series as it is for a neighbor, and then git rebases it: so
git has each file as it was before and after each patch, and can merge.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tools import export, files, git, layout, releases, series, tree
from tools.errors import ToolError
from tools.releases import Release


#: Where git keeps how conflicts were resolved, for all trees.
RESOLUTIONS = layout.BUILD / "rerere"

#: Where git keeps a rebase that has stopped.
_STATE = ".git/rebase-merge"

_SETTINGS = {
    "merge.conflictStyle": "diff3",
    "rerere.enabled": "true",
    "rerere.autoUpdate": "true",
}


def neighbor(version: str, root: Path = layout.PATCHES) -> Release:
    """The supported release that a port begins from.

    Args:
        version (str): the release to port to.
        root (Path): the folder of the patches.

    Returns:
        Release: the oldest one that is newer, whose variants it would share; the
        newest one for what is newer than all.

    Raises:
        ToolError: if it is no release.
    """
    if not releases.order(version):
        raise ToolError(f"'{version}' is no release of PyTorch; give one like 2.14.1.")
    newer = [
        release
        for release in releases.supported(root)
        if releases.order(release.version) > releases.order(version)
    ]
    return newer[-1] if newer else releases.newest(root)


def port(
    release: Release,
    sources: Mapping[str, bytes],
    start: Release,
    start_sources: Mapping[str, bytes],
    into: Path = tree.TREE,
    *,
    patches_root: Path = layout.PATCHES,
    overlay_root: Path = layout.OVERLAY,
    resolutions: Path = RESOLUTIONS,
    force: bool = False,
) -> list[str]:
    """Make a tree for a release out of the series for another one.

    Args:
        release (Release): the release to port to.
        sources (Mapping[str, bytes]): its files.
        start (Release): a supported release.
        start_sources (Mapping[str, bytes]): its files.
        into (Path): the folder of the tree.
        patches_root (Path): the folder of the patches.
        overlay_root (Path): the folder of the overlay.
        resolutions (Path): where git keeps how conflicts were resolved.
        force (bool): whether to replace a tree that holds work which was not
            exported.

    Returns:
        list[str]: the patches that were left out.

    Raises:
        ToolError: as :func:`tools.tree.materialize`, or if a person is needed; the
            tree is then in the middle of ``git rebase``.
    """
    tree.materialize(
        start_sources,
        into,
        release=start.version,
        patches_root=patches_root,
        overlay_root=overlay_root,
        force=force,
    )
    for name, value in _SETTINGS.items():
        git.output(into, "config", name, value)
    _share(into / ".git" / "rr-cache", resolutions)
    old = git.output(into, "rev-parse", tree.BASE).strip()
    tree.rebase_onto(into, release, sources)
    done = git.run(into, "rebase", "--quiet", "--onto", tree.BASE, old, tree.BRANCH)
    if done.returncode and not (into / _STATE).is_dir():
        raise ToolError(f"git rebase failed: {git.text(done.stderr).strip()}")
    return go_on(into, patches_root=patches_root)


def go_on(into: Path = tree.TREE, *, patches_root: Path = layout.PATCHES) -> list[str]:
    """Take a port as far as it goes without a person.

    Args:
        into (Path): the tree.
        patches_root (Path): the folder of the patches.

    Returns:
        list[str]: the patches that were left out.

    Raises:
        ToolError: if there is no port, or a person is needed.
    """
    if not tree.is_tree(into) or git.run(into, "config", tree.PORT).returncode:
        raise ToolError(f"{into} is no port; begin one with 'tools port RELEASE'.")
    step = into / _STATE / "msgnum"
    while (into / _STATE).is_dir():
        refuse_conflicts(
            into,
            "REBASE_HEAD",
            "'python -m tools port --continue'; or leave the patch out with 'git rebase "
            "--skip' before that",
        )
        number = files.content(step)
        done = git.run(into, "rebase", "--continue", extra={"GIT_EDITOR": ":"})
        if done.returncode and files.content(step) == number:
            raise ToolError(f"git rebase stopped: {git.text(done.stderr).strip()}")
    there = {series.slug(name) for name in export.read(into).patches}
    start = neighbor(tree.release_of(into), patches_root)
    before = [patch.name for patch in series.patches(start.version, patches_root)]
    return [name for name in before if series.slug(name) not in there]


def refuse_conflicts(folder: Path, commit: str, go_on: str) -> None:
    """Refuse to go on where a person is needed.

    Args:
        folder (Path): the repository.
        commit (str): git's name for the commit that it picks.
        go_on (str): what to go on with, as words.

    Raises:
        ToolError: if a file has a conflict, or what is staged has a mark of one.
    """
    unmerged = ("diff", "--name-only", "--diff-filter=U", "-z")
    if paths := git.split(git.output(folder, *unmerged)):
        subject = git.output(folder, "log", "-1", "--format=%s", commit).strip()
        raise ToolError(
            f"'{subject}' conflicts in {', '.join(paths)}. In {folder}, edit, 'git add', "
            f"and go on with {go_on}."
        )
    for line in git.text(
        git.run(folder, "diff", "--cached", "--check").stdout
    ).splitlines():
        if line.endswith("leftover conflict marker"):
            raise ToolError(
                f"{line}. Edit that file in {folder}, and 'git add' it again."
            )


def _share(link: Path, folder: Path) -> None:
    """Let trees have one cache of resolutions, where links can be made."""
    folder.mkdir(parents=True, exist_ok=True)
    with suppress(OSError, NotImplementedError):
        os.symlink(folder.resolve(), link)
