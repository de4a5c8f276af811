"""Tests of ``python -m tools apply``: the series over an installed torch."""

import contextlib
import errno
import itertools
import os
import shutil
import subprocess
import sys
import zipfile

import pytest
import tiny_torch

from tools import apply, base, files, installed, patched, wheel
from tools.errors import ToolError
from tools.installed import Torch


RELEASES = ("2.14.1", "2.13.0")
ADAM, OPTIMIZER = "torch/optim/adam.py", "torch/optim/optimizer.py"
KEYS = "torch/optim/_names/keys.py"


class Place:
    """A series, and a torch that it may be laid over."""

    def __init__(self, root):
        self.root = root
        self.site = root / "site-packages"
        self.patches = root / "patches"
        self.overlay = root / "torch_overlay"
        tiny_torch.write_series(root, releases=RELEASES)

    def write_overlay(self, text):
        (self.overlay / KEYS).write_text(text)

    def install(self, version="2.13.0+cpu", **how):
        self.wheel = tiny_torch.make(self.root / "official", version=version, **how)
        shutil.unpack_archive(self.wheel, self.site, "zip")
        return tiny_torch.tree(self.site)

    @property
    def torch(self):
        return Torch(self.site / "torch")

    def roots(self):
        return self.patches, self.overlay

    def apply(self):
        return apply.apply(self.torch, *self.roots())

    def revert(self):
        return apply.revert(self.torch)

    def look(self):
        return installed.look(self.torch, *self.roots())

    def refused(self, action, *words):
        """The action names these words, and changes nothing."""
        before = tiny_torch.tree(self.site)
        with pytest.raises(ToolError) as caught:
            action()
        for word in words:
            assert word in str(caught.value)
        assert tiny_torch.tree(self.site) == before


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


@pytest.mark.parametrize("crlf", [False, True])
@pytest.mark.parametrize("version", ["2.13.0+cpu", "2.14.1", "2.14.1+rocm6.4"])
def test_gives_the_files_of_the_patched_wheel_and_takes_them_off(place, version, crlf):
    before = place.install(version, crlf=crlf)
    assert f"is PyTorch {version[:6]}: 3 files were changed" in place.apply()
    held = tiny_torch.check_record(place.site)
    roots = {"patches_root": place.patches, "overlay_root": place.overlay}
    built = wheel.build(place.wheel, place.root, **roots)
    expected = tiny_torch.contents(built)
    for name in expected:
        if name.startswith("torch/") and name != patched.VERSION_FILE:
            assert held[name] == expected[name], name
    state = place.look()
    assert (state.release, state.current) == (version[:6], True)
    assert f"__version__ = '{version}".encode() in held[patched.VERSION_FILE]
    assert f"named.{state.here}'".encode() in held[patched.VERSION_FILE]
    assert f"torch-{version}.dist-info/METADATA" in held
    assert "3 files were put back" in place.revert()
    assert tiny_torch.tree(place.site) == before
    assert not (place.site / KEYS).parent.exists()


def test_what_is_there_already(place):
    place.install()
    place.apply()
    held = tiny_torch.tree(place.site)
    assert "has the series already" in place.apply()
    assert tiny_torch.tree(place.site) == held


def test_later_revision_takes_the_place_of_an_earlier_one(place):
    """The earlier one changed a file, and added one, that this one does not."""
    before = place.install()
    place.write_overlay("KEYS = 1\n")
    (place.overlay / KEYS).with_name("old.py").write_text("")
    place.apply()
    (place.overlay / KEYS).with_name("old.py").unlink()
    place.write_overlay("KEYS = 2\n")
    for file in place.patches.glob("*.patch"):
        file.write_text(tiny_torch.DIFFS.partition("diff --git a/" + OPTIMIZER)[0])
    for file in (place.patches / "bases").iterdir():
        file.write_text(file.read_text().splitlines(keepends=True)[1])
    place.apply()
    held = tiny_torch.check_record(place.site)
    assert held[KEYS] == b"KEYS = 2\n"
    assert "torch/optim/_names/old.py" not in held
    assert held[OPTIMIZER] == before[OPTIMIZER]
    assert held[ADAM].endswith(b"    named = True\n")
    place.revert()
    assert tiny_torch.tree(place.site) == before


def test_build_of_ones_own_with_the_files_of_a_release(place):
    before = place.install("2.13.0a0+ecf3bae.nv25")
    assert "is PyTorch 2.13.0: " in place.apply()
    held = tiny_torch.check_record(place.site)
    assert b"'2.13.0a0+ecf3bae.nv25.named." in held[patched.VERSION_FILE]
    place.revert()
    assert tiny_torch.tree(place.site) == before


@pytest.mark.parametrize("release", ["2.13.0", "2.13.1"])
def test_releases_with_the_same_files(place, release):
    tiny_torch.write_series(place.root, releases=("2.13.1", "2.13.0"))
    place.install(f"{release}+cpu")
    assert place.look().release == release
    place.apply()
    assert place.look().release == release


def test_files_that_differ_are_named(place):
    place.install("2.13.0a0+own")
    with (place.site / ADAM).open("a") as file:
        file.write("# mine\n")
    place.refused(
        place.apply,
        "2.13.0a0+own",
        "none of the releases that the series is for (2.14.1, 2.13.0)",
        f"closest to 2.13.0, where these files are others:\n  {ADAM}\nNothing",
    )
    place.refused(place.revert, "was not changed by", "nothing to put back")


def test_file_where_the_overlay_has_one(place):
    place.install()
    (place.site / KEYS).parent.mkdir()
    (place.site / KEYS).write_text("KEYS = 1\n")
    place.refused(place.apply, f"\n  {KEYS}\n")


@pytest.mark.parametrize("path", [ADAM, KEYS, patched.VERSION_FILE])
@pytest.mark.parametrize("how", ["edited", "removed"])
def test_files_that_were_changed_since(place, path, how):
    place.install()
    place.apply()
    if how == "edited":
        (place.site / path).write_text("mine = 1\n")
    elif path == KEYS:
        pytest.skip("as if the first run had been killed")
    else:
        (place.site / path).unlink()
    for action in (place.apply, place.revert):
        place.refused(action, f"changed since 'python -m tools apply':\n  {path}\n")


@pytest.mark.parametrize("number", range(9))
def test_error_on_the_way_changes_nothing(place, monkeypatch, number):
    before = place.install()
    replace, calls = os.replace, iter(range(100))

    def fail(source, target):
        if next(calls) == number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        place.apply()
    assert tiny_torch.tree(place.site) == before
    assert not (place.site / KEYS).parent.exists()
    calls = iter(range(100, 200))
    place.apply()
    held = tiny_torch.tree(place.site)
    if number < 4:
        calls = iter(range(100))
        with pytest.raises(OSError, match="No space left"):
            place.revert()
        assert tiny_torch.tree(place.site) == held


def killed(action, number):
    """Run an action in a process that ends before it changes so many files."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] != 0
    calls = iter(range(number))

    def until(change):
        def run(*arguments, **options):
            if next(calls, None) is None:
                os._exit(1)
            change(*arguments, **options)

        return run

    os.replace, os.unlink = until(os.replace), until(os.unlink)
    action()
    os._exit(0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
@pytest.mark.parametrize("first", ["apply", "revert"])
@pytest.mark.parametrize("then", ["apply", "revert"])
def test_run_that_is_killed_on_the_way(place, first, then):
    """Both directions stay open, whichever files have been written."""
    before = place.install()
    for number in itertools.count():
        if first == "revert":
            place.apply()
        if not killed(getattr(place, first), number):
            break
        with files.scratch(place.site):
            pass  # sweeps away the folder in which new files were prepared
        if then == "revert":
            # There is nothing to put back before the first file, or after the last.
            with contextlib.suppress(ToolError):
                place.revert()
        else:
            place.apply()
            assert place.look().current
            tiny_torch.check_record(place.site)
            place.revert()
        assert tiny_torch.tree(place.site) == before
    assert number > 8


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_modes_and_other_links_to_the_files_stay(place):
    """Installers link files from caches, which must not change."""
    before = place.install()
    os.link(place.site / ADAM, place.root / "cached.py")
    (place.site / ADAM).chmod(0o664)
    place.apply()
    assert (place.root / "cached.py").read_bytes() == before[ADAM]
    assert (place.site / ADAM).stat().st_mode & 0o777 == 0o664


def test_bytecode_of_new_files_goes_with_them(place):
    place.install()
    place.apply()
    code = (
        "import importlib.util as u, py_compile, sys; py_compile.compile(sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", code, place.site / KEYS], check=True)
    assert list((place.site / KEYS).parent.glob("__pycache__/*"))
    place.revert()
    assert not (place.site / KEYS).parent.exists()


def test_torch_without_record(place):
    place.install()
    (record,) = place.site.glob("torch-*.dist-info/RECORD")
    record.write_text("damaged\n")
    place.refused(place.apply, f"{record} is damaged")
    record.unlink()
    place.refused(place.apply, "no RECORD")


def test_torch_from_a_patched_wheel(place):
    official = tiny_torch.make(place.root / "official")
    roots = {"patches_root": place.patches, "overlay_root": place.overlay}
    built = wheel.build(official, place.root, **roots)
    with zipfile.ZipFile(built) as archive:
        archive.extractall(place.site)
    assert "has the series already" in place.apply()
    place.refused(place.revert, "was not changed by")
    place.write_overlay("KEYS = 2\n")
    place.refused(place.apply, "is from a patched wheel", "pip install .")


@pytest.fixture
def repository(tmp_path):
    """A repository for two releases."""
    folder = tiny_torch.repository(tmp_path / "repository")
    return tiny_torch.write_series(folder, releases=RELEASES)


@pytest.fixture
def run(repository, tmp_path):
    """Run commands in the repository with an interpreter that has torch 2.14.1."""
    pytest.importorskip("pip")
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    python = venv / ("Scripts" if os.name == "nt" else "bin") / "python"

    def run(*arguments, pip=False, **variables):
        command = [python, "-m", *arguments]
        if pip:
            command = [sys.executable, "-m", "pip", "--python", python, *arguments]
        hidden = ("PYTHONPATH", "OPTIM_NAMES_BASE_WHEEL", "OPTIM_NAMES_RELEASE")
        inherited = {k: v for k, v in os.environ.items() if k not in hidden}
        done = subprocess.run(
            command,
            cwd=repository,
            env={**inherited, "PIP_CONFIG_FILE": os.devnull, **variables},
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout + done.stderr

    official = tiny_torch.make(
        tmp_path / "official", version="2.14.1+cpu", tags="py3-none-any"
    )
    code, said = run("install", "--no-index", "--no-deps", official, pip=True)
    assert code == 0, said
    (run.site,) = venv.rglob("site-packages")
    return run


def test_command_and_what_pip_makes_of_it(run):
    before = tiny_torch.tree(run.site)
    assert "It is PyTorch 2.14.1." in run("tools", "status")[1]
    code, said = run("tools", "apply")
    assert code == 0, said
    code, said = run("tools", "status")
    assert code == 0
    assert "patched in place, with revision" in said
    assert said.endswith("\ntorch==2.14.1+cpu\n")
    assert run("check", pip=True)[0] == 0
    file = run.site / OPTIMIZER
    patched = file.read_bytes()
    file.write_bytes(before[OPTIMIZER])
    assert "patched in place, but not to the end" in run("tools", "status")[1]
    file.write_text("mine = 1\n")
    said = run("tools", "status")[1]
    assert f"but these files were changed since: {OPTIMIZER}" in said
    file.write_bytes(patched)
    code, said = run("tools", "apply", "--revert")
    assert code == 0, said
    assert tiny_torch.tree(run.site) == before
    run("tools", "apply")
    code, said = run("uninstall", "-y", "torch", pip=True)
    assert code == 0, said
    assert list(run.site.iterdir()) == []
    code, said = run("tools", "apply")
    assert code == 1
    assert said.startswith("error: No torch is installed for")


def test_build_beside_an_installed_torch(run, tmp_path, monkeypatch):
    """pip takes its release and variant, from behind the isolation of the build."""
    monkeypatch.setenv("OPTIM_NAMES_CACHE", str(tmp_path / "cache"))
    for version in ("2.13.0+cpu", "2.14.1+cpu", "2.14.1+cu130"):
        tiny_torch.make(base.cache_folder(), version=version, tags="py3-none-any")
    # The second time, the installed torch is a patched one.
    for options in ([], ["--force-reinstall"]):
        pip = ("install", ".", "--no-index", "--no-deps", *options)
        code, said = run(*pip, pip=True)
        assert code == 0, said
        assert "Successfully installed torch-2.14.1+cpu.named." in said
