"""Tests of tools.fetch, with a stand-in for pip."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tools import fetch
from tools.errors import ToolError
from tools.releases import Release


RELEASE = Release("2.14.1", (3, 10))
WHEEL = "torch-2.14.1-cp310-none-macosx_11_0_arm64.whl"


@pytest.fixture
def pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """The commands that pip is given; it brings a wheel."""
    monkeypatch.setenv("OPTIM_NAMES_CACHE", str(tmp_path))
    monkeypatch.setattr(fetch.base, "pip_environment", dict)
    commands: list[Sequence[str]] = []

    def run(command: Sequence[str], **options: object) -> object:
        commands.append(command)
        (Path(command[command.index("--dest") + 1]) / WHEEL).write_bytes(b"wheel")
        return subprocess.CompletedProcess(command, 0, b"")

    monkeypatch.setattr(fetch.base.subprocess, "run", run)
    return commands


def test_downloads_once(pip: list[Sequence[str]], tmp_path: Path) -> None:
    assert fetch.cached(RELEASE) is None
    for _ in range(2):
        assert fetch.python_files(RELEASE) == tmp_path / "any" / WHEEL
    (command,) = pip
    words = " ".join(command)
    assert words.endswith("--python-version 3.10 torch==2.14.1")
    assert "--no-deps --only-binary :all: --platform macosx_" in words
    assert [entry.name for entry in (tmp_path / "any").iterdir()] == [WHEEL]


@pytest.mark.parametrize("name", [WHEEL, "torch-2.14.1+cpu-cp311-cp311-linux.whl"])
def test_wheel_of_any_folder_serves(
    pip: list[Sequence[str]], tmp_path: Path, name: str
) -> None:
    for other in ("torch-2.14.10-py3-none-any.whl", "torch-2.13.0-py3-none-any.whl"):
        (tmp_path / "cp311").mkdir(exist_ok=True)
        (tmp_path / "cp311" / other).touch()
    (tmp_path / "cp311" / name).touch()
    assert fetch.python_files(RELEASE) == tmp_path / "cp311" / name
    assert pip == []


def test_pip_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTIM_NAMES_CACHE", str(tmp_path))
    monkeypatch.setattr(fetch.base, "pip_environment", dict)
    failed = subprocess.CompletedProcess([], 1, b"ERROR: No matching distribution")
    monkeypatch.setattr(fetch.base.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(ToolError, match=r"torch 2\.14\.1\. Check .* No matching"):
        fetch.python_files(RELEASE)
    assert list((tmp_path / "any").iterdir()) == []


def test_no_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTIM_NAMES_CACHE", str(tmp_path))
    monkeypatch.setattr(fetch.base, "pip_environment", lambda: None)
    with pytest.raises(ToolError, match="has no pip to download"):
        fetch.python_files(RELEASE)
