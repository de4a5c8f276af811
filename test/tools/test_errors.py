"""Errors of the system end a command with a sentence, not with a traceback."""

import ast
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_torch

from tools import errors, layout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return tiny_torch.repository(tmp_path / "repository")


@pytest.fixture
def official(tmp_path: Path) -> Path:
    return tiny_torch.make(tmp_path / "official", tags="py3-none-any")


def run(
    repository: Path, *arguments: "str | Path", **environment: str
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=repository,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def check_error(done: "subprocess.CompletedProcess[str]", *words: str) -> None:
    """One line, without a traceback, and the words in it."""
    assert done.returncode not in (0, -2)
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and line.endswith(".")
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EROFS, "Read-only file system", "/a"), "/a: Read-only file"),
        (PermissionError(errno.EACCES, "Permission denied", "/a"), "permissions"),
        (OSError(errno.ENOSPC, "No space left on device", "/a"), "set TMPDIR"),
        (OSError(errno.ENOENT, "No usable temporary directory found"), "set TMPDIR"),
        (KeyboardInterrupt(), "Interrupted"),
        (errors.ToolError("What happened. What to do."), "What happened. What to do."),
    ],
)
def test_sentences(error: BaseException, words: str) -> None:
    assert isinstance(error, errors.REPORTED)
    said = errors.sentence(error)
    assert words in said
    assert said.endswith(".")


COMMANDS = [
    ("setup.py", "bdist_wheel"),
    ("-m", "tools", "wheel"),
    ("-m", "tools", "check"),
    ("-m", "tools", "materialize"),
]

commands = pytest.mark.parametrize("command", COMMANDS, ids=" ".join)


@commands
@pytest.mark.parametrize("trouble", ["folder", "encoding"])
def test_order_file_that_cannot_be_read(
    repository: Path, official: Path, command: tuple[str, ...], trouble: str
) -> None:
    order = repository / "patches" / "series"
    if trouble == "folder":
        order.unlink()
        order.mkdir()
    else:
        order.write_bytes(b"# caf\xe9\n")
    done = run(repository, *command, "--base-wheel", official)
    check_error(done, str(order), "" if trouble == "folder" else "not UTF-8")


@commands
def test_no_place_for_temporary_files(
    repository: Path, official: Path, command: tuple[str, ...], tmp_path: Path
) -> None:
    nowhere = str(tmp_path / "nowhere")
    code = (
        f"import runpy, sys, tempfile; tempfile.tempdir = {nowhere!r}; "
        f"sys.path.insert(0, ''); sys.argv = [{command[0]!r}, *sys.argv[1:]]; "
    )
    if command[0] == "-m":
        code += "runpy.run_module('tools', run_name='__main__')"
        command = command[1:]
    else:
        code += "runpy.run_path('setup.py', run_name='__main__')"
    done = run(repository, "-c", code, *command[1:], "--base-wheel", official)
    if "check" in command:
        # Some checks answer before; all the same, there is no traceback.
        assert done.returncode == 1 and "Traceback" not in done.stderr
    elif "materialize" not in command:
        check_error(done, nowhere)


@pytest.mark.skipif(os.name == "nt", reason="a script stands in for git")
@commands
def test_interruption(
    repository: Path, official: Path, command: tuple[str, ...], tmp_path: Path
) -> None:
    script = tmp_path / "bin" / "git"
    script.parent.mkdir()
    script.write_text("#!/bin/sh\nkill -INT $PPID\nsleep 1\n")
    script.chmod(0o755)
    path = os.pathsep.join([str(script.parent), os.environ["PATH"]])
    done = run(repository, *command, "--base-wheel", official, PATH=path)
    assert done.returncode == 130
    check_error(done, "Interrupted")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
@commands
def test_git_without_the_execute_bit(
    repository: Path, official: Path, command: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "git").write_text("#!/bin/sh\n")
    path = str(tmp_path / "bin")
    done = run(repository, *command, "--base-wheel", official, PATH=path)
    words = "git cannot be run: Permission denied. Install git"
    if "check" in command:
        assert words in done.stdout and not done.stderr
    else:
        check_error(done, words)


@pytest.mark.parametrize("command", COMMANDS[:2], ids=" ".join)
def test_old_python(repository: Path, command: tuple[str, ...]) -> None:
    code = "import runpy, sys; sys.version_info = (3, 9, 18); sys.path.insert(0, ''); "
    if command[0] == "-m":
        code += "runpy.run_module('tools', run_name='__main__')"
    else:
        code += "runpy.run_path('setup.py', run_name='__main__')"
    check_error(run(repository, "-c", code), "Python 3.9 is too old", "3.10 or later")


@pytest.mark.parametrize("name", ["setup.py", "tools/__init__.py", "tools/__main__.py"])
def test_old_python_can_read_what_it_reads_first(name: str) -> None:
    ast.parse((layout.ROOT / name).read_text(), feature_version=(3, 6))


@pytest.mark.parametrize("how", ["-I", "PYTHONSAFEPATH"])
def test_isolated_interpreter(repository: Path, official: Path, how: str) -> None:
    command = ["setup.py", "bdist_wheel", "--base-wheel", official]
    if how == "-I":
        done = run(repository, "-I", *command)
    else:
        done = run(repository, *command, PYTHONSAFEPATH="1")
    assert done.returncode == 0, done.stderr
