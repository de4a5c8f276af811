"""Errors that a command reports to its user in one message."""

import errno
import sys


class ToolError(Exception):
    """Something the user can act on.

    The message is a full sentence that names the file or the patch concerned
    and says what to do. The command line prints it without a traceback and
    exits with status 1.
    """


#: What a command reports in a sentence. Anything else is a fault of the tools,
#: and its traceback is needed.
REPORTED = (ToolError, OSError, UnicodeError, KeyboardInterrupt)

NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NOT_ALLOWED = {errno.EACCES, errno.EPERM, errno.EROFS}

_INTERRUPTED = 130


def sentence(error: BaseException) -> str:
    """What happened, and what to do about it.

    Args:
        error (BaseException): one of :data:`REPORTED`.

    Returns:
        str: one sentence, or two.
    """
    if isinstance(error, KeyboardInterrupt):
        return "Interrupted."
    if not isinstance(error, OSError):
        return str(error)
    what = f"{error.strerror or error}".rstrip(".")
    what = f"{error.filename}: {what}" if error.filename else what
    if error.errno in NO_SPACE:
        advice = "Free some space, or set TMPDIR to a folder on another disk."
    elif error.errno in _NOT_ALLOWED:
        advice = "Change its permissions, or work in a copy that you may write to."
    elif error.filename is None:
        advice = "If it is about temporary files, set TMPDIR to another folder."
    else:
        advice = "Check that path, and run the command again."
    return f"{what}. {advice}"


def notice(text: str) -> None:
    """Print what is no result to standard error, unless it is empty."""
    if text:
        print(text, file=sys.stderr, flush=True)


def report(error: BaseException) -> int:
    """Print the sentence to standard error.

    Args:
        error (BaseException): one of :data:`REPORTED`.

    Returns:
        int: the exit status of the command that it ended.
    """
    print(f"error: {sentence(error)}", file=sys.stderr)
    return _INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1
