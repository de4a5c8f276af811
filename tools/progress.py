"""Progress on a terminal, for work that takes long."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


#: Work that is done before this many seconds stays silent.
_PATIENCE = 0.5

#: Seconds between two updates of the line.
_INTERVAL = 0.1

_MIB = 1024 * 1024


@contextmanager
def bar(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Count bytes of work, visibly where somebody is looking.

    The line is written to standard error, only if that is a terminal and only
    once the work has taken half a second. It is wiped at the end.

    Args:
        label (str): what is being done, e.g. ``"Writing torch.whl"``.
        total (int): the whole work, in bytes.

    Yields:
        Callable[[int], None]: to be called with the bytes done since the last
        call.
    """
    if not sys.stderr.isatty():
        yield lambda count: None
        return
    done = 0
    width = 0
    due = time.monotonic() + _PATIENCE

    def advance(count: int) -> None:
        nonlocal done, width, due
        done += count
        now = time.monotonic()
        if now < due:
            return
        due = now + _INTERVAL
        line = f"{label}: {done // _MIB} of {total // _MIB} MiB"
        width = max(width, len(line))
        print(f"\r{line:{width}}", end="", file=sys.stderr, flush=True)

    try:
        yield advance
    finally:
        if width:
            print(f"\r{'':{width}}\r", end="", file=sys.stderr, flush=True)
