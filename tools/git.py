"""Git, shielded from the user's configuration and from enclosing repositories."""

import hashlib
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tools.errors import ToolError


#: Settings that would change the bytes that git reads or writes. They are given
#: on the command line as well, since a repository's own file could set them.
_SETTINGS = {
    "apply.ignoreWhitespace": "no",
    "apply.whitespace": "nowarn",
    "commit.gpgSign": "false",
    "core.attributesFile": os.devnull,
    "core.autocrlf": "false",
    "core.fileMode": "false",
    "core.fsmonitor": "false",
    "core.hooksPath": os.devnull,
    "core.quotePath": "false",
    "core.safecrlf": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
}


def environment(folder: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment in which git sees ``folder`` and nothing around it.

    Args:
        folder (Path): where git is to work. A repository in the folder itself
            is used, whoever owns it; one that encloses it is out of sight. In a
            repository below its top, ``git apply`` skips all files with status
            0, and GIT_CEILING_DIRECTORIES cannot name a folder with a colon.
        extra (Mapping[str, str], optional): variables to set on top.

    Returns:
        dict[str, str]: the process's environment without its git variables,
        with the user's and the system's configuration switched off and
        messages in English.
    """
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    return {
        **inherited,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_SYSTEM": os.devnull,
        "GIT_DIR": str(folder.resolve() / ".git"),
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C",
        **(extra or {}),
    }


def command(*arguments: str) -> list[str]:
    """A git command line with the settings that keep its bytes stable.

    Args:
        *arguments (str): the subcommand and its arguments.

    Returns:
        list[str]: what to give to :mod:`subprocess`.
    """
    settings = [word for k, v in _SETTINGS.items() for word in ("-c", f"{k}={v}")]
    return ["git", "--literal-pathspecs", *settings, *arguments]


def run(
    folder: Path,
    *arguments: str,
    stdin: bytes = b"",
    extra: Mapping[str, str] | None = None,
) -> "subprocess.CompletedProcess[bytes]":
    """Run git in ``folder``, whatever its exit status.

    Args:
        folder (Path): the working directory.
        *arguments (str): the subcommand and its arguments.
        stdin (bytes): what git reads from its standard input.
        extra (Mapping[str, str], optional): further environment variables.

    Returns:
        subprocess.CompletedProcess[bytes]: with both outputs captured.

    Raises:
        ToolError: if there is no ``git`` that can be run.
    """
    try:
        return subprocess.run(
            command(*arguments),
            cwd=folder,
            env=environment(folder, extra),
            input=stdin,
            capture_output=True,
            check=False,
        )
    except OSError as error:
        if not folder.is_dir():
            raise ToolError(f"The folder {folder} does not exist.") from error
        problem = (
            "was not found on PATH"
            if isinstance(error, FileNotFoundError)
            else f"cannot be run: {error.strerror}"
        )
        raise ToolError(
            f"git {problem}. Install git 2.32 or later; it applies the patches."
        ) from error


def output(
    folder: Path,
    *arguments: str,
    stdin: bytes = b"",
    extra: Mapping[str, str] | None = None,
) -> str:
    """What a git command prints.

    Args:
        folder (Path): the working directory.
        *arguments (str): the subcommand and its arguments.
        stdin (bytes): what git reads from its standard input.
        extra (Mapping[str, str], optional): further environment variables.

    Returns:
        str: standard output, as it is.

    Raises:
        ToolError: if there is no ``git``, or git fails; with git's own words.
    """
    done = run(folder, *arguments, stdin=stdin, extra=extra)
    if done.returncode:
        raise ToolError(
            f"'git {' '.join(arguments[:2])}' failed in {folder}: "
            f"{text(done.stderr).strip() or f'exit status {done.returncode}'}"
        )
    return text(done.stdout)


def split(output: str) -> Sequence[str]:
    """The entries of a ``-z`` listing.

    Args:
        output (str): what git printed.

    Returns:
        Sequence[str]: the entries, without the empty one at the end.
    """
    return [entry for entry in output.split("\0") if entry]


def text(raw: bytes) -> str:
    """Git's output as text; bytes that are not UTF-8 are kept as surrogates."""
    return raw.decode("utf-8", "surrogateescape")


def blob(content: bytes | None) -> str:
    """The name that git gives to a content.

    Args:
        content (bytes or None): the content of a file; None for no file.

    Returns:
        str: its SHA-1 as a blob; all zeros for no file.
    """
    if content is None:
        return "0" * 40
    header = b"blob %d\0" % len(content)
    return hashlib.sha1(header + content, usedforsecurity=False).hexdigest()
