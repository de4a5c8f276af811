"""Change several files: all of them, or none."""

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from tools.errors import ToolError


try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


#: What the names of all temporary folders begin with.
SCRATCH = ".optim-names-"


@contextmanager
def scratch(parent: Path | None = None) -> Iterator[Path]:
    """A temporary folder, removed at the end.

    What a run that was killed has left in the same place is removed first.

    Args:
        parent (Path, optional): where the folder goes. Default: the system's
            folder for temporary files.

    Yields:
        Path: the folder.
    """
    parent = Path(tempfile.gettempdir()) if parent is None else parent
    _sweep(parent)
    folder, lock = _locked_folder(parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _locked_folder(parent: Path) -> tuple[Path, int | None]:
    """A new folder, and the lock that says that it is in use."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=parent))
        lock = _lock(folder)
        # Another run may have swept it away before it was locked.
        if folder.is_dir():
            return folder, lock
        if lock is not None:
            os.close(lock)


def _lock(folder: Path) -> int | None:
    """Lock a folder for as long as this process lives; None if that fails."""
    if fcntl is None:
        return None
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock


def _sweep(parent: Path) -> None:
    """Remove the folders of this user's runs that no longer live."""
    # Others come and go in that place, and it need not be readable.
    with suppress(OSError):
        for entry in parent.iterdir():
            if not entry.name.startswith(SCRATCH):
                continue
            lock = _lock(entry)
            if lock is not None and os.fstat(lock).st_uid == os.getuid():
                shutil.rmtree(entry, ignore_errors=True)
            if lock is not None:
                os.close(lock)


def private_folder(name: str) -> Path | None:
    """A folder for temporary files that only this user can have written to.

    Args:
        name (str): its name.

    Returns:
        Path, optional: the folder, which stays; None if another user, or a link,
        has that name.
    """
    folder = Path(tempfile.gettempdir()) / name
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if not hasattr(os, "getuid"):
        return folder  # Windows gives each user a folder for temporary files
    found = folder.lstat()
    own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    return folder if own and not found.st_mode & 0o077 else None


@contextmanager
def restored_on_failure(
    paths: Iterable[Path],
) -> Iterator[Mapping[Path, bytes | None]]:
    """Put files back as they were when the block raises.

    Args:
        paths (Iterable[Path]): the files that the block may write, create or
            remove. They are held in memory meanwhile.

    Yields:
        Mapping[Path, bytes or None]: what each holds before, as
        :func:`content` gives it.
    """
    before = {path: content(path) for path in paths}
    try:
        yield before
    except BaseException:
        for path, old in before.items():
            if content(path) != old:
                put(path, old)
        raise


def replace(contents: Mapping[Path, bytes | None]) -> list[Path]:
    """Give files new contents; on an error each is as it was.

    A file that holds its new content already is not written, so its time
    stays. Others keep their mode. They are written in the order given.

    Args:
        contents (Mapping[Path, bytes or None]): new contents; ``None`` removes
            the file. All lie on one file system.

    Returns:
        list[Path]: the files that were written or removed.

    Raises:
        OSError: if a file cannot be written, e.g. for lack of space.
    """
    changed = {path: new for path, new in contents.items() if content(path) != new}
    if not changed:
        return []
    common = Path(os.path.commonpath([path.absolute().parent for path in changed]))
    while not common.is_dir():
        common = common.parent
    with scratch(common) as folder:
        staged: dict[Path, Path] = {}
        for number, (path, new) in enumerate(changed.items()):
            if new is not None:
                staged[path] = folder / str(number)
                staged[path].write_bytes(new)
                if path.exists():
                    shutil.copymode(path, staged[path])
        try:
            with restored_on_failure(changed):
                for path in changed:
                    if path in staged:
                        path.parent.mkdir(parents=True, exist_ok=True)
                        os.replace(staged[path], path)
                    else:
                        path.unlink()
        except BaseException:
            remove_empty({path.parent for path in changed})
            raise
    return list(changed)


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove folders that are empty, and those that hold nothing else.

    Args:
        folders (Iterable[Path]): the folders; those that are not empty stay.
    """
    for folder in sorted(folders, reverse=True):
        while folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
            folder = folder.parent


def content(path: Path) -> bytes | None:
    """What a file holds.

    Args:
        path (Path): the file.

    Returns:
        bytes or None: its content, ``None`` if there is no such file.
    """
    return path.read_bytes() if path.is_file() else None


def text(path: Path) -> str:
    """What a text file holds.

    Args:
        path (Path): the file.

    Returns:
        str: its text.

    Raises:
        ToolError: if it is not UTF-8.
        OSError: if it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ToolError(
            f"{path} is not UTF-8 text ({error.reason} at byte {error.start}). Save it "
            "as UTF-8, or restore it."
        ) from error


def with_unix_lines(data: bytes) -> bytes:
    """A source with line feeds, as the patches are written.

    Args:
        data (bytes): the source. Wheels for Windows carry such with a carriage
            return at the end of every line.

    Returns:
        bytes: the same with line feeds alone; a source of mixed lines, or none,
        as it is.
    """
    if data.count(b"\r\n") == data.count(b"\n"):
        return data.replace(b"\r\n", b"\n")
    return data


def replace_folder(
    new: Path, old: Path, approve: Callable[[Path], None] = lambda old: None
) -> None:
    """Move a folder to where another one is, which is removed.

    Args:
        new (Path): the folder to move, on the same file system.
        old (Path): its new path. A folder that is there is kept if the move
            fails.
        approve (Callable[[Path], None]): called with the old folder once
            nobody finds it under its path anymore; raises to keep it.

    Raises:
        OSError: if the move fails.
    """
    with scratch(old.parent) as temporary:
        aside = temporary / "old"
        existed = old.exists()
        if existed:
            old.rename(aside)
        try:
            if existed:
                approve(aside)
            new.rename(old)
        except BaseException:
            if existed:
                aside.rename(old)
            raise


def put(path: Path, new: bytes | None) -> None:
    """Write a file, and the folders around it, or remove it.

    Args:
        path (Path): the file.
        new (bytes or None): its content; None if it is not to be there.
    """
    if new is None:
        path.unlink(missing_ok=True)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(new)
