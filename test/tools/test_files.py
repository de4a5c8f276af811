"""Tests of tools.files: temporary folders, and files that change together."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from small_torch import write

from tools import files, layout


#: Makes a temporary folder, says so, and waits.
HOLDER = """\
import sys
from pathlib import Path
from tools import files
with files.scratch(Path(sys.argv[1])) as folder:
    (folder / "file").write_text("")
    print(folder, flush=True)
    sys.stdin.read()
"""

linux_or_mac = pytest.mark.skipif(os.name == "nt", reason="Windows has no such locks")


@pytest.fixture
def holder(tmp_path: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        cwd=layout.ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def held(holder: "subprocess.Popen[str]") -> Path:
    assert holder.stdout is not None
    return Path(holder.stdout.readline().strip())


@linux_or_mac
def test_folder_of_a_killed_run_is_removed(
    tmp_path: Path, holder: "subprocess.Popen[str]"
) -> None:
    folder = held(holder)
    holder.kill()
    holder.communicate()
    assert (folder / "file").exists()
    with files.scratch(tmp_path) as own:
        assert list(tmp_path.iterdir()) == [own]
    assert list(tmp_path.iterdir()) == []


@linux_or_mac
def test_folder_of_a_live_run_is_kept(
    tmp_path: Path, holder: "subprocess.Popen[str]"
) -> None:
    folder = held(holder)
    with files.scratch(tmp_path):
        assert (folder / "file").exists()
    holder.communicate("")
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_ours_is_kept(tmp_path: Path) -> None:
    write(tmp_path, {".tree-mine/file": "", "target/file": ""})
    (tmp_path / f"{files.SCRATCH}link").symlink_to(tmp_path / "target")
    with files.scratch(tmp_path):
        pass
    assert (tmp_path / ".tree-mine/file").exists()
    assert (tmp_path / "target/file").exists()


@linux_or_mac
@pytest.mark.parametrize("trap", ["open", "link", "foreign", "file"])
def test_private_folder_that_somebody_else_may_have_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trap: str
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    place = tmp_path / "name"
    if trap == "link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        place.symlink_to(tmp_path / "elsewhere")
    elif trap == "file":
        place.write_text("")
    else:
        place.mkdir(mode=0o777 if trap == "open" else 0o700)
        place.chmod(0o777 if trap == "open" else 0o700)
    if trap == "foreign":
        monkeypatch.setattr(os, "getuid", lambda: place.stat().st_uid + 1)
    assert files.private_folder("name") is None


@linux_or_mac
def test_private_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for _ in range(2):
        assert files.private_folder("name") == tmp_path / "name"
        assert (tmp_path / "name").stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_replaced_file_gets_the_mode_of_a_new_one(tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        files.replace({tmp_path / "new/file": b"", tmp_path / "other": b""})
    finally:
        os.umask(mask)
    assert (tmp_path / "new/file").stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "other"]
