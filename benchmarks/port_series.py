"""The patches on ``torch.optim`` for another release, for a GPU machine that has it.

Run ``python benchmarks/port_series.py --wheel torch-2.11.0-....whl`` beside a
materialized tree. It takes the files of ``torch/optim`` from the wheel, lays the
series over them with git's three-way merge, and writes the patches that differ into
``patches/2.11.0``. Patches that change other parts of PyTorch are left out.
"""

import argparse
import re
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path


sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools import export, files, git, layout, series, tree
from tools.errors import ToolError


#: Where the files lie that a port changes.
FOLDERS = ("torch/optim/", "torch/testing/_internal/common_optimizers.py")

_CONFLICT = re.compile(
    r"^<{7} [^\n]*\n(.*?)^\|{7} [^\n]*\n(.*?)^={7}\n(.*?)^>{7} [^\n]*\n",
    re.MULTILINE | re.DOTALL,
)


def portable(patches: Sequence[series.Patch]) -> list[series.Patch]:
    """The patches that a port takes."""
    return [
        patch
        for patch in patches
        if all(path.startswith(FOLDERS) for path in series.touched_files([patch]))
    ]


def port(wheel: Path, materialized: Path) -> tuple[str, dict[str, bytes]]:
    """Lay the series over the files of another release.

    Args:
        wheel (Path): the release's official wheel.
        materialized (Path): the tree of the base release.

    Returns:
        tuple[str, dict[str, bytes]]: the release, and the patches for it by file
        name.

    Raises:
        ToolError: if there is no tree, or a patch needs a person to port it.
    """
    if not tree.is_tree(materialized):
        raise ToolError(f"{materialized} is not there; run 'tools materialize'.")
    names = {_slug(p.name): p.name for p in series.patches()}
    with zipfile.ZipFile(wheel) as archive, tempfile.TemporaryDirectory() as temporary:
        release = wheel.name.split("-")[1].partition("+")[0]
        work = Path(temporary) / "tree"
        git.output(Path(temporary), "clone", "--quiet", str(materialized), str(work))
        _git(work, "config", "user.name", tree.AUTHOR)
        _git(work, "config", "user.email", tree.EMAIL)
        commits = _git(work, "rev-list", "--reverse", f"{tree.BASE}..HEAD").split()
        _git(work, "checkout", "--quiet", "--detach", tree.BASE)
        before = _tracked(work)
        there = set(archive.namelist())
        for path in before & there:
            (work / path).write_bytes(files.with_unix_lines(archive.read(path)))
        for path in before - there:
            (work / path).unlink()
        _git(work, "commit", "--quiet", "--all", "--message", f"PyTorch {release}")
        _git(work, "update-ref", tree.BASE, "HEAD")
        for commit in commits:
            changed = _git(work, "show", "--format=", "--name-only", commit).split()
            if all(path.startswith(FOLDERS) for path in changed) and not (
                (before - there).intersection(changed)
            ):
                _pick(work, commit)
        written = export._format_patches(work, before)
    return release, {names[_slug(name)]: content for name, content in written.items()}


def _tracked(work: Path) -> set[str]:
    return {path for path in _git(work, "ls-files").split() if path.startswith(FOLDERS)}


def _slug(name: str) -> str:
    return name.partition("-")[2]


def _git(work: Path, *arguments: str) -> str:
    return git.output(work, *arguments)


def _pick(work: Path, commit: str) -> None:
    """Cherry-pick a commit, and merge what git leaves to a person."""
    options = ("-c", "merge.conflictStyle=diff3", "-c", "core.editor=true")
    if git.run(work, *options, "cherry-pick", commit).returncode == 0:
        return
    for path in _git(work, "diff", "--name-only", "--diff-filter=U").split():
        file = work / path
        text = _CONFLICT.sub(
            lambda match: merged(match[1], match[2], match[3], str(file)),  # noqa: B023
            file.read_text(encoding="utf-8"),
        )
        file.write_text(text, encoding="utf-8")
    _git(work, "commit", "--quiet", "--all", "--reuse-message", commit)


def merged(ours: str, base: str, theirs: str, path: str) -> str:
    """Insert what a patch inserts, although the lines around it are others.

    Args:
        ours (str): the lines in the other release.
        base (str): the lines in the base release.
        theirs (str): the lines with the patch.
        path (str): the file.

    Returns:
        str: the lines in the other release with the patch.

    Raises:
        ToolError: if it is not clear what to do.
    """
    if theirs.startswith(base):
        return ours + theirs[len(base) :]
    if theirs.endswith(base):
        return theirs[: len(theirs) - len(base)] + ours
    differing = (i for i, (b, t) in enumerate(zip(base, theirs)) if b != t)
    start = next(differing, len(base))
    suffix = base[start:]
    if theirs.endswith(suffix) and ours.endswith(suffix):
        inserted = theirs[start : len(theirs) - len(suffix)]
        return ours[: len(ours) - len(suffix)] + inserted + suffix
    if not ours:
        return ""  # what the patch changes is not in the other release
    raise ToolError(f"A conflict in {path} needs a person:\n{base}{theirs}{ours}")


def main() -> int:
    """Write the patches that differ.

    Returns:
        int: the exit status: 1 if something could not be ported.
    """
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--wheel", type=Path, required=True, metavar="FILE")
    parser.add_argument("--tree", type=Path, default=tree.TREE, metavar="FOLDER")
    options = parser.parse_args()
    try:
        release, ported = port(options.wheel, options.tree)
    except (ToolError, OSError, zipfile.BadZipFile) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    folder = layout.PATCHES / release
    common = {p.name: p.path.read_bytes() for p in series.patches()}
    contents: dict[Path, bytes | None] = dict.fromkeys(folder.glob("*.patch"))
    contents.update(
        {
            folder / name: content
            for name, content in ported.items()
            if export._change(content) != export._change(common[name])
        }
    )
    files.replace(contents)
    print(
        f"{len(ported)} of {len(common)} patches are for torch.optim and PyTorch "
        f"{release} has their files; {sum(c is not None for c in contents.values())} "
        f"differ, in {folder}."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
