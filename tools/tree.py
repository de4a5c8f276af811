"""The series as commits in a git repository, to work on it.

The tree holds the base's Python sources in one commit (tag ``base``), the
overlay in the next, and then one commit a patch. :mod:`tools.export` is the way back.
"""

import json
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tools import files, git, layout, releases, series
from tools.errors import ToolError
from tools.series import LABEL, Patch


AUTHOR = "optim-names contributors"
EMAIL = "noreply@optim-names.invalid"
BRANCH = "optim-names"
BASE = "refs/tags/base"

#: The commit that the files in ``patches/`` and the overlay correspond to.
EXPORTED = "refs/optim-names/exported"

#: In a tree's configuration: its release, and in a port, the oldest Python of that.
RELEASE = "optimNames.release"
PORT = "optimNames.port"

#: Below ``.git``: what patches and overlay were when the tree was made.
_MADE_FROM = "optim-names.json"

#: The error for a folder that holds none.
NO_TREE = "{} is not a materialized tree; run 'python -m tools materialize'."

_AM_ADVICE = (
    "The commits before it are in {}. There, run 'git am --show-current-patch=diff | git "
    "apply --reject', edit, 'git add' and 'git am --continue'; then run 'python -m tools "
    "export'."
)

#: Where ``materialize`` puts the tree.
TREE = layout.BUILD / "tree"

_TOP_FOLDERS = ("torch/", "test/", "docs/")
_SUFFIXES = (".py", ".pyi", ".pyi.in", ".rst", ".md")

#: Commits that no patch records need a date too, the same every time.
_DATE = "946684800 +0000"

_UNFINISHED = {
    "rebase-apply": "'git am' or 'git rebase'",
    "rebase-merge": "'git rebase'",
    "MERGE_HEAD": "'git merge'",
    "CHERRY_PICK_HEAD": "'git cherry-pick'",
    "REVERT_HEAD": "'git revert'",
}


def wheel_sources(wheel: Path, release: str = releases.DEFAULT) -> Mapping[str, bytes]:
    """The files of an official wheel that a patch may touch.

    Args:
        wheel (Path): the wheel, for any platform.
        release (str): the PyTorch release it must be of.

    Returns:
        Mapping[str, bytes]: POSIX path to content of the Python sources, with
        line feeds at the ends of lines. A file is read when it is asked for.

    Raises:
        ToolError: if the file is no official wheel of the release; later, if
            what is read from it is damaged.
    """
    with _readable(wheel):
        archive = zipfile.ZipFile(wheel)
        names = archive.namelist()
    _check_version(wheel, names, release)
    return _proven(_WheelSources(wheel, archive), wheel)


@contextmanager
def _readable(wheel: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ToolError(
            f"The wheel {wheel} cannot be read: {error}. Download it again."
        ) from error


class _WheelSources(Mapping[str, bytes]):
    def __init__(self, wheel: Path, archive: zipfile.ZipFile) -> None:
        self._wheel = wheel
        self._archive = archive
        self._read: dict[str, bytes | None] = {
            name: None for name in sorted(archive.namelist()) if _is_source(name)
        }

    def __getitem__(self, name: str) -> bytes:
        content = self._read[name]
        if content is None:
            with _readable(self._wheel):
                content = files.with_unix_lines(self._archive.read(name))
            self._read[name] = content
        return content

    def __contains__(self, name: object) -> bool:
        return name in self._read

    def __iter__(self) -> Iterator[str]:
        return iter(self._read)

    def __len__(self) -> int:
        return len(self._read)


def _check_version(wheel: Path, names: Sequence[str], release: str) -> None:
    found = re.search(r"^torch-([^/\n]+)\.dist-info/METADATA$", "\n".join(names), re.M)
    if found is None:
        raise ToolError(f"{wheel} is not a wheel of torch; give the official one.")
    public, _, local = found[1].partition("+")
    if public != release:
        raise ToolError(
            f"{wheel} is torch {found[1]}, but PyTorch {release} is wanted. Give a "
            f"wheel of that release, or say '--release {public}'."
        )
    if LABEL in local.split("."):
        raise ToolError(f"{wheel} is patched already; give the official wheel.")


def oldest_python(wheel: Path) -> tuple[int, int]:
    """The oldest Python that a wheel is for.

    Args:
        wheel (Path): a wheel of torch.

    Returns:
        tuple[int, int]: for example ``(3, 10)``.

    Raises:
        ToolError: if its metadata do not say so.
    """
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if re.fullmatch(r"torch-[^/]+\.dist-info/METADATA", name):
                text = archive.read(name).decode("utf-8", "replace")
                found = re.search(r"^Requires-Python: >=(\d+)\.(\d+)", text, re.M)
                if found:
                    return int(found[1]), int(found[2])
    raise ToolError(f"{wheel} does not say which Python it needs; give another one.")


def checkout_sources(checkout: Path) -> Mapping[str, bytes]:
    """The tracked files of a PyTorch checkout that a patch may touch.

    Args:
        checkout (Path): a git checkout of PyTorch. Its ``HEAD`` is read;
            changes in its work tree play no part.

    Returns:
        Mapping[str, bytes]: POSIX path to content of the Python sources, and of
        the tests and documentation that a wheel does not carry.

    Raises:
        ToolError: if the folder is no git checkout of PyTorch.
    """
    listing = git.output(checkout, "ls-tree", "-r", "-z", "--full-tree", "HEAD")
    names: list[str] = []
    blobs: list[str] = []
    for entry in git.split(listing):
        meta, name = entry.split("\t", 1)
        mode, _, blob = meta.split()
        if mode in ("100644", "100755") and _is_source(name):
            names.append(name)
            blobs.append(blob)
    return _proven(dict(zip(names, blob_contents(checkout, blobs))), checkout)


def _is_source(name: str) -> bool:
    return name.startswith(_TOP_FOLDERS) and name.endswith(_SUFFIXES)


def _proven(sources: Mapping[str, bytes], origin: Path) -> Mapping[str, bytes]:
    if "torch/optim/optimizer.py" not in sources:
        raise ToolError(
            f"{origin} is not PyTorch: it has no torch/optim/optimizer.py. Give the "
            "official wheel or a checkout of pytorch/pytorch."
        )
    return sources


def blob_contents(repository: Path, objects: Sequence[str]) -> list[bytes]:
    """The contents of git objects, from one process.

    Args:
        repository (Path): the root of a repository.
        objects (Sequence[str]): names of blobs, e.g. ``"HEAD:torch/hub.py"``.

    Returns:
        list[bytes]: the contents, in the same order.

    Raises:
        ToolError: if the repository has no such blob.
    """
    if not objects:
        return []
    request = "".join(f"{name}\n" for name in objects).encode("utf-8")
    answer = git.run(repository, "cat-file", "--batch", stdin=request).stdout
    contents: list[bytes] = []
    start = 0
    for name in objects:
        head = answer.find(b"\n", start)
        fields = answer[start:head].split(b" ")
        if head < 0 or fields[-2:-1] != [b"blob"]:
            raise ToolError(f"The git repository {repository} has no object {name}.")
        start = head + 1 + int(fields[-1])
        contents.append(answer[head + 1 : start])
        start += 1
    return contents


def materialize(
    sources: Mapping[str, bytes],
    into: Path = TREE,
    *,
    release: str = releases.DEFAULT,
    patches_root: Path = layout.PATCHES,
    overlay_root: Path = layout.OVERLAY,
    force: bool = False,
    exact: bool = True,
) -> list[Patch]:
    """Write the series as commits into a new git repository.

    Args:
        sources (Mapping[str, bytes]): the base's files.
        into (Path): the folder of the new repository.
        release (str): which release's variants of the patches to take.
        patches_root (Path): the folder of the patches.
        overlay_root (Path): the folder of the overlay.
        force (bool): whether to replace a tree that holds work which was not
            exported.
        exact (bool): whether each touched file must become what is promised in
            ``<patches_root>/bases/<release>``, and a person is to mend what does not
            apply. False for a tree that nobody will see.

    Returns:
        list[Patch]: the patches, each now a commit.

    Raises:
        ToolError: if ``into`` holds something that would be lost, or overlay
            and base overlap (nothing is changed then); or a patch does not
            apply: the commits up to it are there then, and the message says
            how to go on.
    """
    made_from = state_of_series(patches_root, overlay_root)
    todo = series.patches(release, patches_root)
    promises = series.promises(release, patches_root) if exact and todo else {}
    overlay = {p: f.read_bytes() for p, f in series.overlay_files(overlay_root).items()}
    both = sorted(overlay.keys() & sources.keys())
    if both:
        raise ToolError(
            f"The overlay holds {both[0]}, which PyTorch has. Change that file with a "
            "patch, and remove it from the overlay."
        )
    _refuse_without_files(todo, sources)
    _refuse_to_lose(into, force)
    into.parent.mkdir(parents=True, exist_ok=True)
    with files.scratch(into.parent) as temporary:
        fresh = temporary / "tree"
        fresh.mkdir()
        _initialize(fresh, release)
        _import_commits(fresh, sources, overlay, release)
        problem = _am(fresh, todo)
        if exact:
            problem = (
                f"{problem} {_AM_ADVICE.format(into)}"
                if problem
                else _promise_problem(promises, todo, fresh, into)
            )
        git.output(fresh, "update-ref", EXPORTED, "HEAD")
        write_made_from(fresh, made_from, patches_root, overlay_root)

        def approve(old: Path) -> None:
            # All this took time in which somebody may have gone on working.
            _refuse_to_lose(old, force, into)

        files.replace_folder(fresh, into, approve)
    if problem:
        raise ToolError(problem)
    return todo


def rebase_onto(
    tree: Path, release: releases.Release, sources: Mapping[str, bytes]
) -> None:
    """Make another release the base of a tree; its commits stay where they are.

    Args:
        tree (Path): the tree.
        release (releases.Release): the release; the tree becomes a port to it.
        sources (Mapping[str, bytes]): its files.
    """
    new = "refs/optim-names/port"
    stream = b"".join(commit_stream(new, f"PyTorch {release.version}\n", sources))
    git.output(tree, "fast-import", "--quiet", stdin=stream)
    for ref in (BASE, EXPORTED):
        git.output(tree, "update-ref", ref, new)
    git.output(tree, "update-ref", "-d", new)
    git.output(tree, "config", RELEASE, release.version)
    git.output(tree, "config", PORT, ".".join(map(str, release.python)))


def state_of_series(patches_root: Path, overlay_root: Path) -> dict[Path, str]:
    """What patches and overlay are, as files.

    Args:
        patches_root (Path): the folder of the patches.
        overlay_root (Path): the folder of the overlay.

    Returns:
        dict[Path, str]: each file that an export could write or remove, to its
        git blob hash.
    """
    paths = [
        *filter(Path.is_file, patches_root.rglob("*")),
        *series.overlay_files(overlay_root).values(),
    ]
    return {path: git.blob(files.content(path)) for path in paths}


def write_made_from(
    tree: Path, state: Mapping[Path, str], patches_root: Path, overlay_root: Path
) -> None:
    """Keep in a tree what :func:`state_of_series` returned.

    Args:
        tree (Path): the tree, of which this is the state of the series.
        state (Mapping[Path, str]): the state.
        patches_root (Path): the folder of the patches.
        overlay_root (Path): the folder of the overlay.
    """
    kept = {
        name: {
            path.relative_to(root).as_posix(): blob
            for path, blob in state.items()
            if path.is_relative_to(root)
        }
        for name, root in (("patches", patches_root), ("overlay", overlay_root))
    }
    text = json.dumps(kept, indent=1, sort_keys=True)
    (tree / ".git" / _MADE_FROM).write_text(text, encoding="utf-8")


def made_from(tree: Path, patches_root: Path, overlay_root: Path) -> dict[Path, str]:
    """What patches and overlay were when a tree was made, or exported last.

    Args:
        tree (Path): the tree.
        patches_root (Path): the folder of the patches.
        overlay_root (Path): the folder of the overlay.

    Returns:
        dict[Path, str]: as :func:`state_of_series`; empty if a tree has no
        record of it.
    """
    content = files.content(tree / ".git" / _MADE_FROM)
    kept = {} if content is None else json.loads(content)
    return {
        root / path: blob
        for name, root in (("patches", patches_root), ("overlay", overlay_root))
        for path, blob in kept.get(name, {}).items()
    }


def _promise_problem(
    promises: Mapping[str, tuple[str, str]],
    patches: Sequence[Patch],
    fresh: Path,
    final: Path,
) -> str:
    for path in series.touched_files(patches):
        promised = promises.get(path, ("", ""))[1]
        if git.blob(files.content(fresh / path)) != promised:
            return (
                f"{series.broken(path, patches)} Or, if the commits in {final} are as "
                "they should be, run 'python -m tools export'."
            )
    return ""


def _refuse_without_files(patches: Sequence[Patch], sources: Iterable[str]) -> None:
    """Raise if patches change what only a checkout holds."""
    known = set(sources)
    for patch in patches:
        for path in series.touched_files([patch]):
            if path not in known and not path.startswith("torch/"):
                raise ToolError(
                    f"Patch {patch.name} changes {path}, which no wheel holds. Give a "
                    "PyTorch checkout with --source."
                )


def _refuse_to_lose(into: Path, force: bool, name: Path | None = None) -> None:
    """Raise unless the folder, which the user knows as ``name``, may be replaced."""
    if not into.exists() or (into.is_dir() and not any(into.iterdir())):
        return
    if not is_tree(into):
        raise ToolError(
            f"{into} exists and was not made by this command; give another folder "
            "with --into, or move it away."
        )
    problem = "" if force else unexported_work(into)
    if problem:
        raise ToolError(
            f"{name or into} {problem}. Keep it with 'python -m tools export', or throw it "
            "away with 'python -m tools materialize --force'."
        )


def is_tree(folder: Path) -> bool:
    """Whether a folder is a repository that :func:`materialize` made.

    Args:
        folder (Path): any path.

    Returns:
        bool: True if it is.
    """
    if not (folder / ".git").is_dir():
        return False
    return git.run(folder, "rev-parse", "--verify", "-q", EXPORTED).returncode == 0


def release_of(tree: Path = TREE) -> str:
    """The release that a tree is for.

    Args:
        tree (Path): the materialized tree.

    Returns:
        str: its version.

    Raises:
        ToolError: if there is no tree.
    """
    if not is_tree(tree):
        raise ToolError(NO_TREE.format(tree))
    return git.output(tree, "config", RELEASE).strip()


def new_modules(tree: Path = TREE) -> list[str]:
    """The files of the overlay as they are in a tree, committed or not.

    Args:
        tree (Path): the materialized tree.

    Returns:
        list[str]: POSIX paths, sorted.

    Raises:
        ToolError: if there is no tree.
    """
    if not is_tree(tree):
        raise ToolError(NO_TREE.format(tree))
    before = {*git.split(git.output(tree, "ls-tree", "-rz", "--name-only", BASE))}
    listed = ("ls-files", "-z", "--cached", "--others", "--exclude-standard")
    names = {*git.split(git.output(tree, *listed))} - before
    return sorted(name for name in names if (tree / name).is_file())


def unexported_work(tree: Path) -> str:
    """What a tree holds that neither patches nor overlay do.

    Args:
        tree (Path): the materialized tree.

    Returns:
        str: empty if there is nothing, else what to put after the tree's path
        to make a sentence.
    """
    if problem := uncommitted_work(tree):
        return problem
    commits = git.output(tree, "rev-list", "--all", "HEAD", "--not", EXPORTED).split()
    if commits:
        noun = "commit that was" if len(commits) == 1 else "commits that were"
        return f"holds {len(commits)} {noun} not exported"
    return ""


def uncommitted_work(tree: Path) -> str:
    """What a tree holds that is in no commit.

    Args:
        tree (Path): the materialized tree.

    Returns:
        str: as :func:`unexported_work`.
    """
    for name, doing in _UNFINISHED.items():
        if (tree / ".git" / name).exists():
            return f"is in the middle of {doing}; finish or abort it"
    status = git.split(
        git.output(tree, "status", "--porcelain", "-z", "--untracked-files=all")
    )
    if status:
        return f"has uncommitted changes ({status[0][3:]})"
    return ""


def _initialize(tree: Path, release: str) -> None:
    git.output(
        tree,
        "init",
        "--quiet",
        "--object-format=sha1",
        f"--initial-branch={BRANCH}",
        "--template=",
    )
    # For the developer's own git commands; those of this module bring their own.
    for name, value in {
        "user.name": AUTHOR,
        "user.email": EMAIL,
        "commit.gpgSign": "false",
        "core.autocrlf": "false",
        "core.compression": "0",
        RELEASE: release,
    }.items():
        git.output(tree, "config", name, value)
    (tree / ".git" / "info").mkdir(exist_ok=True)
    (tree / ".git" / "info" / "exclude").write_text("__pycache__/\n*.rej\n", "utf-8")


def _import_commits(
    tree: Path,
    sources: Mapping[str, bytes],
    overlay: Mapping[str, bytes],
    release: str,
) -> None:
    branch = f"refs/heads/{BRANCH}"
    stream = b"".join(
        [
            *commit_stream(branch, f"PyTorch {release}\n", sources),
            f"reset {BASE}\nfrom {branch}\n\n".encode(),
            *commit_stream(
                branch,
                "Overlay: the new modules\n\n"
                "What later commits add or change in new files goes to the overlay "
                "as well.\n",
                overlay,
            ),
        ]
    )
    git.output(tree, "fast-import", "--quiet", stdin=stream)
    git.output(tree, "reset", "--quiet", "--hard")


def commit_stream(
    ref: str,
    message: str,
    contents: Mapping[str, bytes | None],
    author: str = f"{AUTHOR} <{EMAIL}>",
    date: str = _DATE,
) -> Iterable[bytes]:
    """One commit on a branch, in the language of ``git fast-import``.

    Args:
        ref (str): the branch.
        message (str): the commit's message.
        contents (Mapping[str, bytes or None]): POSIX path to content of the files
            that it changes; None for a file that goes.
        author (str): author and committer, as ``NAME <MAIL>``.
        date (str): seconds since 1970, and the zone.

    Yields:
        bytes: parts of the stream.
    """
    text = message.encode("utf-8")
    yield f"commit {ref}\n".encode()
    yield f"author {author} {date}\n".encode()
    yield f"committer {author} {date}\n".encode()
    yield b"data %d\n%s" % (len(text), text)
    for path, content in contents.items():
        if content is None:
            yield f"D {path}\n".encode()
        else:
            yield f"M 100644 inline {path}\n".encode()
            yield b"data %d\n%s\n" % (len(content), content)
    yield b"\n"


def _am(tree: Path, patches: Sequence[Patch]) -> str:
    """Commit the patches; a sentence about the first that does not apply."""
    if not patches:
        return ""
    done = git.run(
        tree,
        "am",
        "--quiet",
        "--patch-format=mbox",
        "--keep-non-patch",
        "--keep-cr",
        "--no-scissors",
        "--committer-date-is-author-date",
        *(str(patch.path.resolve()) for patch in patches),
    )
    if done.returncode == 0:
        return ""
    patch = _stopped_at(tree, patches)
    words = git.text(done.stderr).strip()
    if patch is None:
        raise ToolError(f"git am failed: {words}")
    diff = patch.path.read_bytes()
    if git.run(tree, "apply", "--check", "-", stdin=diff).returncode == 0:
        raise ToolError(
            f"Patch {patch.name} applies, but git could not commit it: {words}"
        )
    with files.scratch() as copy:
        series.copy_files(tree, copy, series.touched_files([patch]))
        problem = series.rejected(patch, copy)
    return problem or words


def _stopped_at(tree: Path, patches: Sequence[Patch]) -> Patch | None:
    following = files.content(tree / ".git" / "rebase-apply" / "next")
    if following is None or not 0 < int(following) <= len(patches):
        return None
    return patches[int(following) - 1]
