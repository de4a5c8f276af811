"""Change several files: all of them, or none."""

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def restored_on_failure(paths: Iterable[Path]) -> Iterator[None]:
    """Put files back as they were when the block raises.

    Args:
        paths (Iterable[Path]): the files that the block may write, create or
            remove. They are held in memory meanwhile.
    """
    before = {path: content(path) for path in paths}
    try:
        yield
    except BaseException:
        for path, old in before.items():
            if content(path) != old:
                _put(path, old)
        raise


def replace(contents: Mapping[Path, bytes | None]) -> list[Path]:
    """Give files new contents; on an error each is as it was.

    A file that holds its new content already is not written, so its time
    stays.

    Args:
        contents (Mapping[Path, bytes or None]): new contents; ``None`` removes
            the file.

    Returns:
        list[Path]: the files that were written or removed.

    Raises:
        OSError: if a file cannot be written, e.g. for lack of space.
    """
    changed = {path: new for path, new in contents.items() if content(path) != new}
    written: dict[Path, Path] = {}
    try:
        for path, new in changed.items():
            if new is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
                written[path] = Path(name)
                with os.fdopen(handle, "wb") as file:
                    file.write(new)
                _set_ordinary_mode(Path(name))
        with restored_on_failure(changed):
            for path in changed:
                if path in written:
                    os.replace(written[path], path)
                else:
                    path.unlink()
    finally:
        for temporary in written.values():
            temporary.unlink(missing_ok=True)
    return list(changed)


def content(path: Path) -> bytes | None:
    """What a file holds.

    Args:
        path (Path): the file.

    Returns:
        bytes or None: its content, ``None`` if there is no such file.
    """
    return path.read_bytes() if path.is_file() else None


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


def replace_folder(new: Path, old: Path) -> None:
    """Move a folder to where another one is, which is removed.

    Args:
        new (Path): the folder to move, on the same file system.
        old (Path): its new path. A folder that is there is kept if the move
            fails.

    Raises:
        OSError: if the move fails.
    """
    with tempfile.TemporaryDirectory(
        dir=old.parent, prefix=f".{old.name}-", ignore_cleanup_errors=True
    ) as temporary:
        aside = Path(temporary) / "old"
        existed = old.exists()
        if existed:
            old.rename(aside)
        try:
            new.rename(old)
        except BaseException:
            if existed:
                aside.rename(old)
            raise


def _put(path: Path, old: bytes | None) -> None:
    if old is None:
        path.unlink(missing_ok=True)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(old)


def _set_ordinary_mode(path: Path) -> None:
    """The mode that a newly created file gets; ``mkstemp`` gives 0600."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)
