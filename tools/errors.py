"""Errors that a command reports to its user in one message."""


class ToolError(Exception):
    """Something the user can act on.

    The message is a full sentence that names the file or the patch concerned
    and says what to do. The command line prints it without a traceback and
    exits with status 1.
    """
