"""An importable torch without building a wheel.

A view is a folder with a ``torch`` in it that consists of links to the files of
the installed torch, except for the files that differ. Put first on
``PYTHONPATH``, it stands in for the installed one.
"""

import atexit
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Literal, TypeAlias

from tools import files, git, layout, patched, series
from tools.errors import ToolError
from tools.installed import State, Torch, installed_torch, look
from tools.tree import BASE, NO_TREE, TREE, is_tree


#: Path below ``torch/`` to a file to link, a content to write, or None for a
#: file to leave out.
Changes: TypeAlias = dict[str, "Path | bytes | None"]

Kind: TypeAlias = Literal["patched", "stock"]

VIEWS = layout.BUILD / "view"

_STAMP = "view.json"


def build(
    kind: Kind,
    into: Path,
    *,
    installed: Path | None = None,
    tree: Path = TREE,
    patches_root: Path = layout.PATCHES,
    overlay_root: Path = layout.OVERLAY,
) -> Path:
    """Make a view, unless the same one is there already.

    Args:
        kind (str): ``"patched"`` for the materialized tree at its current work
            tree state; its files are linked, so that edits are seen at once.
            ``"stock"`` for the release as it is published, also if the
            installed torch is a patched one.
        into (Path): the folder of the view. A view that is there is replaced.
        installed (Path, optional): the folder of the installed torch; found by
            default.
        tree (Path): the materialized tree.
        patches_root (Path): the folder of the patches.
        overlay_root (Path): the folder of the overlay.

    Returns:
        Path: ``into``, to be put first on ``PYTHONPATH``.

    Raises:
        ToolError: if torch is not installed, there is no tree, the tree is for
            another release than the installed torch, that is neither stock nor
            patched with this series, or ``into`` is something else than a view.
    """
    found = installed_torch() if installed is None else Torch(installed)
    state = look(found, patches_root, overlay_root)
    torch = state.torch.folder
    overlay = list(series.overlay_files(overlay_root))
    if kind == "stock":
        changes = _stock_changes(state, overlay, patches_root)
    else:
        changes = _tree_changes(state, tree, overlay, patches_root)
    stamp = _stamp(torch, changes)
    if _stamp_of(into) == stamp:
        return into
    if into.exists() and not (into / _STAMP).is_file() and any(into.iterdir()):
        raise ToolError(f"{into} exists and is no view; move it away.")
    into.parent.mkdir(parents=True, exist_ok=True)
    with files.scratch(into.parent) as temporary:
        fresh = temporary / "view"
        mirror(torch, fresh / "torch", changes)
        (fresh / _STAMP).write_text(stamp, encoding="utf-8")
        try:
            files.replace_folder(fresh, into)
        except OSError:
            # Another process may have been faster.
            if _stamp_of(into) != stamp:
                raise
    return into


def environment(view: Path) -> dict[str, str]:
    """The environment of a process that is to import a view's torch.

    Args:
        view (Path): the folder of the view.

    Returns:
        dict[str, str]: this process's environment with the view first on
        ``PYTHONPATH``.
    """
    paths = [str(view), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def stock_environment() -> dict[str, str]:
    """The environment of a process that is to import the unpatched torch.

    The view is built once, in the repository's build folder, or where that
    cannot be written, in the folder for temporary files.

    Returns:
        dict[str, str]: to be given to :func:`subprocess.run` as ``env``.

    Raises:
        ToolError: as :func:`build`.
    """
    into = VIEWS / "stock"
    try:
        into.parent.mkdir(parents=True, exist_ok=True)
        writable = os.access(into.parent, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        # Another user could put a torch where its name can be foreseen.
        user = f"optim-names-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
        into = (files.private_folder(user) or _fresh_folder()) / "stock"
    return environment(build("stock", into))


def _fresh_folder() -> Path:
    """A temporary folder that is removed when this process ends."""
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(files.scratch())


def _stock_changes(state: State, overlay: Sequence[str], root: Path) -> Changes:
    """What makes the installed torch the published one."""
    torch = state.torch.folder
    kept = dict(state.originals.kept)
    if state.differing and not state.current:
        raise ToolError(
            f"{state.torch} is neither a release that the series is for nor patched "
            "with it as it is here. Install the patched wheel again: pip install ."
        )
    if state.differing:
        patches = series.patches(state.release, root)
        paths = series.touched_files(patches)
        with files.scratch() as copy:
            series.copy_files(torch.parent, copy, paths)
            for file in filter(Path.is_file, copy.rglob("*")):
                file.write_bytes(files.with_unix_lines(file.read_bytes()))
            series.reverse(patches, copy, series.promises(state.release, root))
            kept = {path: (copy / path).read_bytes() for path in paths}
        version = (torch.parent / patched.VERSION_FILE).read_bytes()
        kept[patched.VERSION_FILE] = patched.without_label(version)
    new = [path for path in overlay if (torch.parent / path).exists()]
    return below_torch({**dict.fromkeys([*new, *state.originals.added]), **kept})


def _tree_changes(
    state: State, tree: Path, overlay: Sequence[str], root: Path
) -> Changes:
    """What makes the installed torch the one in the materialized tree."""
    if not is_tree(tree):
        raise ToolError(NO_TREE.format(tree))
    release = git.output(tree, "config", "optimNames.release").strip()
    if release != state.release:
        raise ToolError(
            f"{tree} was made for PyTorch {release}, and {state.torch} is "
            f"{state.release}. Run 'python -m tools materialize --release "
            f"{state.release}'."
        )
    edited = git.output(tree, "diff", "--name-only", "--no-renames", "-z", BASE)
    added = git.output(tree, "ls-files", "--others", "--exclude-standard", "-z")
    # The installed torch may be a patched one: what the series touches comes
    # from the tree even where the tree has the base's file.
    names = {*git.split(edited), *git.split(added), *overlay}
    names.update(series.touched_files(series.patches(release, root)))
    names.update(state.originals.kept, state.originals.added)
    names.discard(patched.VERSION_FILE)
    changes: Changes = {}
    for path in sorted(below_torch(dict.fromkeys(names))):
        file = tree.resolve() / "torch" / path
        if file.is_file():
            changes[path] = file
        elif (state.torch.folder / path).exists():
            changes[path] = None
    return changes


def below_torch(paths: Mapping[str, Path | bytes | None]) -> Changes:
    """Changes from what is keyed by paths that begin with ``torch/``.

    Args:
        paths (Mapping[str, Path | bytes | None]): POSIX path to what is there.

    Returns:
        dict: the same, without that beginning, and without other paths.
    """
    return {
        path.removeprefix("torch/"): value
        for path, value in paths.items()
        if path.startswith("torch/")
    }


def _stamp(torch: Path, changes: Changes) -> str:
    """What a view was made from: equal stamps, equal views."""
    version = torch.parent / patched.VERSION_FILE
    plan = {
        path: git.blob(source) if isinstance(source, bytes) else source and str(source)
        for path, source in changes.items()
    }
    copied = (
        {}
        if _can_link()
        else {
            path: git.blob(files.content(source))
            for path, source in changes.items()
            if isinstance(source, Path)
        }
    )
    made_from = {
        "torch": str(torch),
        "installed": version.stat().st_mtime_ns if version.is_file() else 0,
        "changes": plan,
        "copied": copied,
    }
    return json.dumps(made_from, indent=1, sort_keys=True)


def _stamp_of(view: Path) -> str | None:
    content = files.content(view / _STAMP)
    return None if content is None else content.decode("utf-8")


def _can_link() -> bool:
    """Whether this user may make symbolic links; on Windows not all may."""
    with files.scratch() as folder:
        try:
            os.symlink(folder, folder / "link")
        except (OSError, NotImplementedError):
            return False
    return True


def mirror(source: Path, target: Path, changes: Changes) -> None:
    """Mirror a folder with links, going down only where something differs.

    Args:
        source (Path): the folder.
        target (Path): where the links go; it must not be there.
        changes (dict): what is to differ, by its path below ``source``.
    """
    target.mkdir(parents=True)
    below: dict[str, Changes] = {}
    for path, change in changes.items():
        top, _, rest = path.partition("/")
        if rest:
            below.setdefault(top, {})[rest] = change
        elif change is not None:
            _place(change, target / top)
    entries = sorted(source.iterdir()) if source.is_dir() else []
    for entry in entries:
        # A cache beside links would hold code of files that are not there.
        if entry.name not in changes | below and entry.name != "__pycache__":
            _link(entry, target / entry.name)
    for name, inside in below.items():
        mirror(source / name, target / name, inside)
    if not any(target.iterdir()):
        target.rmdir()  # else it could be imported, as a namespace package


def _place(change: Path | bytes, target: Path) -> None:
    if isinstance(change, bytes):
        target.write_bytes(change)
        return
    try:
        os.symlink(change, target)
    except (OSError, NotImplementedError):
        shutil.copyfile(change, target)


def _link(source: Path, target: Path) -> None:
    """Link a file or folder of the installed torch, by whatever means there are."""
    try:
        os.symlink(source, target, target_is_directory=source.is_dir())
        return
    except (OSError, NotImplementedError):
        pass
    if source.is_dir():
        mirror(source, target, {})
        return
    try:
        os.link(source, target)
    except (OSError, NotImplementedError):
        shutil.copy2(source, target)
