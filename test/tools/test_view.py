"""Tests of tools.view: a torch of links, patched or stock."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from small_torch import OVERLAY, SOURCES, Workplace, write

from tools import __main__ as command_line
from tools import apply, series, view
from tools.errors import ToolError
from tools.installed import Torch, installed_torch


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A stock torch, as if installed."""
    site = tmp_path / "site-packages"
    write(site, {**SOURCES, "torch/lib/libtorch.so": "ELF", "torch/cuda/a.py": ""})
    write(site, {"torch/optim/__pycache__/adam.cpython-311.pyc": "old"})
    return site / "torch"


@pytest.fixture
def patched(installed: Path, workplace: Workplace) -> Path:
    """A torch patched with the series, as if installed."""
    promises = series.promises(root=workplace.patches)
    series.apply(series.patches(root=workplace.patches), installed.parent, promises)
    shutil.copytree(workplace.overlay, installed.parent, dirs_exist_ok=True)
    version = (installed / "version.py").read_text()
    label = "+cpu.named.8.g1a2b3c4d"
    (installed / "version.py").write_text(version.replace("+cpu", label))
    return installed


def build(kind: view.Kind, workplace: Workplace, installed: Path) -> Path:
    return view.build(
        kind,
        workplace.tree.parent / kind,
        installed=installed,
        tree=workplace.tree,
        patches_root=workplace.patches,
        overlay_root=workplace.overlay,
    )


def sources(folder: Path) -> dict[str, bytes]:
    """The Python files below a folder, through links."""
    return {
        (Path(parent) / name).relative_to(folder).as_posix(): (
            Path(parent) / name
        ).read_bytes()
        for parent, _, names in os.walk(folder, followlinks=True)
        for name in names
        if name.endswith(".py") and not parent.endswith("cuda")
    }


class TestPatched:
    def test_files_are_those_of_the_tree(
        self, workplace: Workplace, installed: Path
    ) -> None:
        found = sources(build("patched", workplace, installed))
        assert found == sources(workplace.tree)
        assert b"by name" in found["torch/optim/adam.py"]
        assert OVERLAY.keys() <= found.keys()

    def test_links(self, workplace: Workplace, installed: Path) -> None:
        torch = build("patched", workplace, installed) / "torch"
        assert (torch / "lib").is_symlink()
        assert (torch / "cuda").resolve() == installed / "cuda"
        assert not (torch / "optim").is_symlink()
        assert not (torch / "optim" / "__pycache__").exists()
        assert (torch / "optim/adam.py").resolve() == (
            workplace.tree / "torch/optim/adam.py"
        )

    def test_edits_are_seen_at_once(
        self, workplace: Workplace, installed: Path
    ) -> None:
        folder = build("patched", workplace, installed)
        workplace.edit("torch/optim/adam.py", "by name", "edited")
        assert b"edited" in (folder / "torch/optim/adam.py").read_bytes()

    def test_files_new_in_the_work_tree(
        self, workplace: Workplace, installed: Path
    ) -> None:
        build("patched", workplace, installed)
        write(
            workplace.tree, {"torch/optim/_names/new.py": "", "torch/hub.py": "hub = 2"}
        )
        workplace.git("rm", "-q", "torch/optim/__init__.py")
        found = sources(build("patched", workplace, installed))
        assert found == sources(workplace.tree)

    def test_same_view_is_kept(self, workplace: Workplace, installed: Path) -> None:
        before = build("patched", workplace, installed).stat().st_ino
        assert build("patched", workplace, installed).stat().st_ino == before
        write(workplace.tree, {"torch/hub.py": "hub = 2"})
        assert build("patched", workplace, installed).stat().st_ino != before

    def test_on_a_patched_torch(self, workplace: Workplace, patched: Path) -> None:
        # What the tree no longer changes or has must not come from there.
        workplace.git("reset", "-q", "--hard", "tags/base")
        found = sources(build("patched", workplace, patched))
        version = (patched / "version.py").read_bytes()
        assert found == {**SOURCES, "torch/version.py": version}

    def test_tree_for_another_release(
        self, workplace: Workplace, installed: Path
    ) -> None:
        workplace.git("config", "optimNames.release", "2.14.1")
        with pytest.raises(ToolError, match=r"materialize --release 2\.13\.0'"):
            build("patched", workplace, installed)

    def test_no_tree(self, workplace: Workplace, installed: Path) -> None:
        shutil.rmtree(workplace.tree)
        with pytest.raises(ToolError, match="python -m tools materialize"):
            build("patched", workplace, installed)

    def test_where_links_cannot_be_made(
        self, workplace: Workplace, installed: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise OSError(1314, "A required privilege is not held by the client")

        monkeypatch.setattr(os, "symlink", refuse)
        folder = build("patched", workplace, installed)
        assert sources(folder) == sources(workplace.tree)
        assert not any(path.is_symlink() for path in folder.rglob("*"))
        assert (folder / "torch/lib/libtorch.so").read_text() == "ELF"
        workplace.edit("torch/optim/adam.py", "by name", "edited")
        build("patched", workplace, installed)
        assert b"edited" in (folder / "torch/optim/adam.py").read_bytes()


class TestStock:
    def test_of_a_stock_torch(self, workplace: Workplace, installed: Path) -> None:
        assert sources(build("stock", workplace, installed)) == SOURCES

    def test_of_a_patched_torch(self, workplace: Workplace, patched: Path) -> None:
        before = sources(patched.parent)
        folder = build("stock", workplace, patched)
        assert sources(folder) == SOURCES
        assert not (folder / "torch/optim/_names").exists()
        assert sources(patched.parent) == before

    def test_of_a_torch_with_windows_lines(
        self, workplace: Workplace, patched: Path
    ) -> None:
        for path in SOURCES:
            file = patched.parent / path
            file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
        found = sources(build("stock", workplace, patched))
        unix = {path: c.replace(b"\r\n", b"\n") for path, c in found.items()}
        assert unix == SOURCES

    @pytest.mark.parametrize(
        ("old", "new"),
        [("line_49 = 49", "line_49 = 0"), ("line_30 = 30", "line_30 = 0")],
    )
    def test_of_another_torch(
        self, workplace: Workplace, patched: Path, old: str, new: str
    ) -> None:
        file = patched / "optim/optimizer.py"
        file.write_text(file.read_text().replace(old, new))
        with pytest.raises(ToolError, match="neither a release that the series is for"):
            build("stock", workplace, patched)

    def test_of_a_torch_patched_in_place(
        self, workplace: Workplace, installed: Path
    ) -> None:
        info = installed.parent / "torch-2.13.0+cpu.dist-info"
        write(info, {"RECORD": "", "METADATA": "Name: torch\nVersion: 2.13.0+cpu\n"})
        old = workplace.overlay / "torch/optim/_names/old.py"
        old.write_text("")
        apply.apply(Torch(installed), workplace.patches, workplace.overlay)
        old.unlink()
        # An earlier revision, of which only the originals tell.
        write(workplace.overlay, {"torch/optim/_names/__init__.py": "names = 2\n"})
        assert sources(build("stock", workplace, installed)) == SOURCES
        found = sources(build("patched", workplace, installed))
        version = (installed / "version.py").read_bytes()
        assert found == {**sources(workplace.tree), "torch/version.py": version}

    def test_foreign_folder_is_kept(
        self, workplace: Workplace, installed: Path
    ) -> None:
        write(workplace.tree.parent, {"stock/precious": ""})
        with pytest.raises(ToolError, match="exists and is no view"):
            build("stock", workplace, installed)
        assert (workplace.tree.parent / "stock/precious").exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows has a folder for each user")
@pytest.mark.parametrize("trapped", [False, True])
def test_place_of_the_stock_view_that_nobody_else_can_prepare(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trapped: bool
) -> None:
    """Where the build folder is read-only; somebody may have put a torch there."""
    foreseen = tmp_path / f"optim-names-{os.getuid()}"
    if trapped:
        write(foreseen, {"stock/torch/__init__.py": "evil = 1\n"})
        foreseen.chmod(0o777)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(view, "build", lambda kind, into: into)
    first, *_ = view.stock_environment()["PYTHONPATH"].split(os.pathsep)
    assert Path(first).parent.stat().st_mode & 0o777 == 0o700
    assert (Path(first).parent == foreseen) is not trapped


class TestInstalled:
    def test_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def missing(name: str) -> None:
            raise importlib.metadata.PackageNotFoundError(name)

        monkeypatch.setattr(importlib.metadata, "distribution", missing)
        with pytest.raises(ToolError, match="torch is not installed"):
            installed_torch()


def test_environment_puts_the_view_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "before")
    paths = view.environment(Path("view"))["PYTHONPATH"]
    assert paths.split(os.pathsep) == ["view", "before"]
    monkeypatch.delenv("PYTHONPATH")
    assert view.environment(Path("view"))["PYTHONPATH"] == "view"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["test"], ["-m", "pytest", "SUITE"]),
        (["test", "-k", "adam", "-x"], ["-m", "pytest", "SUITE", "-k", "adam", "-x"]),
        (["test", f"{__file__}::a", "-v"], ["-m", "pytest", f"{__file__}::a", "-v"]),
        (["python", "-c", "pass", "--help"], ["-c", "pass", "--help"]),
        (
            ["types", "--pretty"],
            [
                "-m",
                "mypy",
                *command_line._TYPES,
                "-m",
                "torch.a",
                "-m",
                "b",
                "--pretty",
            ],
        ),
    ],
)
def test_commands_pass_their_arguments_on(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    words: list[str],
    expected: list[str],
) -> None:
    calls = []

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        return subprocess.CompletedProcess(command, 3)

    monkeypatch.setattr(view, "build", lambda kind, into: tmp_path)
    new = ["torch/a.py", "b/__init__.py"]
    monkeypatch.setattr(command_line.tree, "new_modules", lambda: new)
    monkeypatch.setattr(subprocess, "run", run)
    assert command_line.main(words) == 3
    suite = str(Path(__file__).parents[1] / "test_optim.py")
    expected = [suite if word == "SUITE" else word for word in expected]
    assert calls == [[sys.executable, *expected]]


def test_real_torch_is_imported_from_the_view(tmp_path: Path) -> None:
    """The compiled parts load through the links; the replaced file is used."""
    try:
        installed = installed_torch().folder
    except ToolError as error:
        pytest.skip(str(error))
    workplace = Workplace(tmp_path / "work")
    write(workplace.patches, {"bases/2.13.0": ""})
    path = "torch/optim/optimizer.py"
    source = (installed.parent / path).read_bytes()
    workplace.materialize({path: source})
    write(workplace.tree, {path: source + b"\nREPLACED = 1\n"})
    folder = build("patched", workplace, installed)
    code = (
        "import torch, torch.optim._names, torch.optim.optimizer as o; print(torch.__file__, o.__file__, "
        "o.REPLACED, torch.optim._names.names, torch.ones(2).sum().item(), sep='\\n')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=view.environment(folder),
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines() == [
        str(folder / "torch/__init__.py"),
        str(folder / path),
        "1",
        "1",
        "2.0",
    ], done.stderr
