import json
import os
import shutil
import sys

import pytest
import tiny_torch

from tools import layout, source
from tools.errors import ToolError


SETUP = """\
import json, os, pathlib, sys
if "--fail" in sys.argv:
    sys.exit(3)
report = {
    "arguments": sys.argv[1:],
    "executable": sys.executable,
    "version": os.environ["PYTORCH_BUILD_VERSION"],
    "number": os.environ["PYTORCH_BUILD_NUMBER"],
    "optimizer": pathlib.Path("torch/optim/optimizer.py").read_text(),
    "files": sorted(p.as_posix() for p in pathlib.Path(".").rglob("*")),
}
pathlib.Path("dist").mkdir()
if "--none" not in sys.argv:
    name = f"torch-{report['version']}-py3-none-any.whl"
    pathlib.Path("dist", name).write_text(json.dumps(report))
"""


def tree(folder):
    """Each file of a folder with its content, each link with its target."""
    return {
        path.relative_to(folder).as_posix(): (
            os.readlink(path) if path.is_symlink() else path.read_bytes()
        )
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


@pytest.fixture
def checkout(tmp_path):
    files = {
        "setup.py": SETUP,
        "version.txt": "2.13.0a0\n",
        "torch/optim/adam.py": tiny_torch.ADAM,
        "torch/optim/optimizer.py": tiny_torch.OPTIMIZER,
        "test/test_optim.py": "old = 1\n",
        "build/old.o": "object",
        "dist/torch-old.whl": "wheel",
        "tools/build/kept.py": "",
    }
    for name, text in files.items():
        path = tmp_path / "pytorch" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "pytorch/link.txt").symlink_to("version.txt")
    return tmp_path / "pytorch"


@pytest.fixture
def build(tmp_path, monkeypatch):
    for name in ("PYTORCH_BUILD_VERSION", "PYTORCH_BUILD_NUMBER"):
        monkeypatch.delenv(name, raising=False)
    patches = {"0001.patch": tiny_torch.DIFFS + tiny_torch.OUTSIDE}
    root = tiny_torch.write_series(tmp_path / "series", patches)

    def build(checkout, arguments=()):
        return source.build(
            checkout,
            tmp_path / "out",
            arguments,
            patches_root=root / "patches",
            overlay_root=root / "torch_overlay",
            destination=tmp_path / "build" / "source",
        )

    return build


def report(wheel):
    return json.loads(wheel.read_text())


def test_hand_over(checkout, build, tmp_path):
    before = tree(checkout)
    wheel = build(checkout, ["--plat-name", "any"])
    version = f"2.13.0+{tiny_torch.label(tmp_path / 'series')}"
    assert wheel == tmp_path / "out" / f"torch-{version}-py3-none-any.whl"
    said = report(wheel)
    assert said["arguments"] == ["bdist_wheel", "--plat-name", "any"]
    # A path such as "bin/../bin/python" comes back as another one.
    assert os.path.samefile(said["executable"], sys.executable)
    assert (said["version"], said["number"]) == (version, "1")
    assert "line_21 = 'patched'\n" in said["optimizer"]
    assert "torch/optim/_names/keys.py" in said["files"]
    assert "tools/build/kept.py" in said["files"]
    assert not {"build", "dist", "build/old.o"} & set(said["files"])
    copy = tmp_path / "build" / "source"
    assert (copy / "test/test_optim.py").read_text() == "new = 1\n"
    assert os.readlink(copy / "link.txt") == "version.txt"
    assert tree(checkout) == before
    assert [path.name for path in copy.parent.iterdir()] == ["source"]
    assert [path.name for path in wheel.parent.iterdir()] == [wheel.name]


def test_version_that_the_user_set(checkout, build, monkeypatch):
    monkeypatch.setenv("PYTORCH_BUILD_VERSION", "2.13.0+mine")
    monkeypatch.setenv("PYTORCH_BUILD_NUMBER", "7")
    said = report(build(checkout))
    assert (said["version"], said["number"]) == ("2.13.0+mine", "7")


def test_second_build(checkout, build, tmp_path):
    build(checkout)
    copy = tmp_path / "build" / "source"
    built = ["build/torch/optim.o", "torch/lib/libtorch.so", "torch/version.py"]
    stale = ["build/lib.linux-x86_64-cpython-311/gone.py", "build/bdist.linux/gone.py"]
    for name in (*built, *stale):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text("built")
    long_ago = 1_000_000_000
    for path in (p for p in copy.rglob("*") if p.is_file()):
        os.utime(path, (long_ago, long_ago), follow_symlinks=False)
    overlay = tmp_path / "series" / "torch_overlay" / "torch" / "optim" / "_names"
    (overlay / "keys.py").rename(overlay / "saving.py")
    (checkout / "tools/build/kept.py").write_text("new = 1\n")
    os.utime(checkout / "tools/build/kept.py", (long_ago, long_ago))
    (checkout / "link.txt").unlink()
    (checkout / "link.txt").symlink_to("setup.py")

    said = report(build(checkout))

    assert {*built} <= {*said["files"]}
    assert not {*stale} & {*said["files"]}
    assert "torch/optim/_names/saving.py" in said["files"]
    assert "torch/optim/_names/keys.py" not in said["files"]
    assert os.readlink(copy / "link.txt") == "setup.py"
    changed = {
        path.relative_to(copy).as_posix()
        for path in copy.rglob("*")
        if path.is_file() and path.lstat().st_mtime > long_ago + 1
    }
    assert changed - {source.MARKER} == {
        "link.txt",
        "tools/build/kept.py",
        "torch/optim/_names/saving.py",
    }
    assert (copy / "tools/build/kept.py").read_text() == "new = 1\n"


def test_nothing_changed(checkout, build):
    assert build(checkout).read_bytes() == build(checkout).read_bytes()


def test_foreign_folder_is_not_replaced(checkout, build, tmp_path):
    foreign = tmp_path / "build" / "source" / "thesis.txt"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("mine")
    with pytest.raises(ToolError, match="in the way"):
        build(checkout)
    assert foreign.read_text() == "mine"


def test_empty_folder_is_not_in_the_way(checkout, build, tmp_path):
    (tmp_path / "build" / "source").mkdir(parents=True)
    assert build(checkout).exists()


@pytest.mark.parametrize(
    "name", ["setup.py", "version.txt", "torch/optim/optimizer.py"]
)
def test_folder_that_is_no_checkout(checkout, build, name):
    (checkout / name).unlink()
    with pytest.raises(ToolError, match=f"not a PyTorch checkout.*{name}"):
        build(checkout)


@pytest.mark.parametrize("version", ["2.4.0", "2.99.0a0", "2.13.01", "2.13.0.1"])
def test_other_release(checkout, build, version):
    (checkout / "version.txt").write_text(version)
    with pytest.raises(ToolError, match=r"cannot be built from: .* for .*2\.13\.0"):
        build(checkout)


def test_patch_that_does_not_apply(checkout, build, tmp_path):
    build(checkout)
    before = tree(tmp_path / "build")
    text = tiny_torch.OPTIMIZER.replace("line_21 = 21", "line_21 = 0")
    (checkout / "torch/optim/optimizer.py").write_text(text)
    with pytest.raises(
        ToolError, match=r"torch/optim/optimizer\.py in .*pytorch is not"
    ):
        build(checkout)
    # The copy of the earlier build is as it was, and nothing lies beside it.
    assert tree(tmp_path / "build") == before


def test_checkout_with_changes_of_its_own(checkout, build, tmp_path):
    text = tiny_torch.OPTIMIZER.replace("line_1 = 1\n", "line_1 = 'mine'\n")
    (checkout / "torch/optim/optimizer.py").write_text(text)
    with pytest.raises(
        ToolError, match=r"optimizer\.py in .*pytorch is not the file that"
    ):
        build(checkout)
    assert not (tmp_path / "build").exists()


def test_overlay_file_that_is_there(checkout, build, tmp_path):
    (checkout / "torch/optim/_names").mkdir()
    (checkout / "torch/optim/_names/keys.py").write_text("KEYS = 2\n")
    with pytest.raises(ToolError, match=r"torch/optim/_names/keys\.py"):
        build(checkout)
    assert not (tmp_path / "build").exists()


@pytest.mark.parametrize(
    ("argument", "words"), [("--fail", "with status 3"), ("--none", "left 0 wheels")]
)
def test_build_that_fails(checkout, build, tmp_path, argument, words):
    with pytest.raises(ToolError, match=words):
        build(checkout, [argument])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", ["pytorch/build/source", "."])
def test_copy_inside_the_checkout_or_around_it(checkout, tmp_path, place):
    place = tmp_path / place
    with pytest.raises(ToolError, match="inside each other"):
        source.build(checkout, tmp_path / "out", destination=place)


def test_file_that_cannot_be_copied(checkout, build, tmp_path, monkeypatch):
    copies = iter(range(3))

    def copy(path, target, **options):
        if next(copies, None) is None:
            target.write_text("half of it")
            raise OSError(28, "No space left on device", str(target))
        shutil.copy(path, target, **options)

    monkeypatch.setattr("shutil.copy2", copy)
    with pytest.raises(OSError, match="No space left on device"):
        build(checkout)
    monkeypatch.undo()
    build(checkout)
    there = tree(tmp_path / "build" / "source")
    for name, content in tree(checkout).items():
        if not name.startswith(("build/", "dist/", "test/", "torch/")):
            assert there[name] == content


def test_default_place():
    assert layout.BUILD / "source" == source.DESTINATION
