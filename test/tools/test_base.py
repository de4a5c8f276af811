import shutil
import subprocess
import sys
import textwrap
from fnmatch import fnmatch
from types import SimpleNamespace

import pytest
import tiny_torch

from tools import base
from tools.errors import ToolError


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("OPTIM_NAMES_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(base.VARIABLE, raising=False)


@pytest.fixture
def pip(tmp_path, monkeypatch):
    """A pip that runs the given lines; ``dest`` is where it should download to."""

    def pip(lines):
        package = tmp_path / "site" / "pip"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("")
        start = """\
            import shutil, sys
            from pathlib import Path
            if "--version" in sys.argv:
                sys.exit(0)
            Path(__file__).with_name("arguments").write_text("\\n".join(sys.argv[1:]))
            dest = Path(sys.argv[sys.argv.index("--dest") + 1])
            """
        script = textwrap.dedent(start) + lines
        (package / "__main__.py").write_text(script)
        monkeypatch.setenv("PYTHONPATH", str(package.parent))
        return package / "arguments"

    return pip


@pytest.fixture
def downloads(pip, tmp_path):
    """A pip that downloads a small wheel; the wheel, and pip's arguments."""
    official = tiny_torch.make(tmp_path / "index")
    return official, pip(f"shutil.copy({str(official)!r}, dest)\n")


@pytest.fixture
def no_pip(tmp_path, monkeypatch):
    """An interpreter without pip."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    folder = "Scripts" if sys.platform == "win32" else "bin"
    monkeypatch.setattr(sys, "executable", str(venv / folder / "python"))


def test_download_goes_to_the_cache(downloads):
    official, arguments = downloads
    found = base.find(base.Wanted())
    assert found == base.cache_folder() / official.name
    assert found.read_bytes() == official.read_bytes()
    words = arguments.read_text().splitlines()
    assert "--no-deps" in words
    assert words[-1] == "torch==2.13.0"
    # Nobody watches: no progress.
    assert "--quiet" in words
    names = sorted(file.name for file in found.parent.iterdir())
    assert names == [found.name, f"{found.name}.crc32"]
    arguments.unlink()
    assert base.find(base.Wanted()) == found
    assert not arguments.exists()


@pytest.mark.parametrize("known", [True, False])
def test_damaged_wheel_in_the_cache_is_fetched_anew(downloads, capsys, known):
    official, arguments = downloads
    found = base.find(base.Wanted())
    if not known:
        found.with_name(f"{found.name}.crc32").unlink()
    data = bytearray(found.read_bytes())
    data[data.index(b"torch/lib/libtorch.so") + 50_000] ^= 1
    found.write_bytes(data)
    arguments.unlink()
    assert base.find(base.Wanted()) == found
    assert found.read_bytes() == official.read_bytes()
    assert f"{found} is damaged (torch/lib/libtorch.so)" in capsys.readouterr().err
    assert arguments.exists()


def test_damaged_wheel_that_cannot_be_fetched_anew(pip):
    pip("sys.exit('ERROR: No network')")
    damaged = tiny_torch.make(base.cache_folder())
    damaged.write_bytes(damaged.read_bytes()[:-100])
    with pytest.raises(ToolError, match="No network"):
        base.find(base.Wanted())
    assert damaged.exists()


def test_wheel_that_was_put_into_the_cache(downloads):
    cached = tiny_torch.make(base.cache_folder())
    assert base.find(base.Wanted()) == cached
    # Another one under the same name is looked into again.
    tiny_torch.make(base.cache_folder(), own_version="2.13.0+own")
    assert base.find(base.Wanted()) == cached
    assert not downloads[1].exists()


def test_progress_of_pip_on_a_terminal(downloads, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    base.find(base.Wanted())
    assert "--quiet" not in downloads[1].read_text()


def test_cache_is_separate_for_each_interpreter(downloads, monkeypatch):
    found = base.find(base.Wanted())
    assert base.cached(base.Wanted()) == found
    monkeypatch.setattr(sys, "version_info", SimpleNamespace(major=3, minor=99))
    assert base.cached(base.Wanted()) is None
    monkeypatch.undo()
    monkeypatch.setattr(base.sysconfig, "get_platform", lambda: "other-9.9-cpu")
    assert base.cache_folder().name.endswith("-other_9_9_cpu")


@pytest.mark.parametrize(("flag", "mark"), [(1, "t-"), (0, "-"), (None, "-")])
def test_free_threaded_interpreter_has_its_own_cache(monkeypatch, flag, mark):
    version = f"{sys.version_info.major}{sys.version_info.minor}"
    monkeypatch.setattr(base.sysconfig, "get_config_var", lambda name: flag)
    assert f"{version}{mark}" in base.cache_folder().name


def machine(monkeypatch, system):
    """Let this interpreter be one for another system."""
    python = {"linux": "linux", "macosx": "darwin", "win": "win32"}
    monkeypatch.setattr(sys, "platform", python[system.partition("-")[0]])
    monkeypatch.setattr(base, "_interpreter", lambda: "cp311")
    monkeypatch.setattr(base, "_threading", lambda: "")
    monkeypatch.setattr(base.sysconfig, "get_platform", lambda: system)
    monkeypatch.setattr(base.platform, "machine", lambda: system.rpartition("-")[2])
    monkeypatch.setattr(base.platform, "mac_ver", lambda: ("14.2.1", (), ""))
    monkeypatch.setattr(base.platform, "libc_ver", lambda: ("glibc", "2.31"))


@pytest.mark.parametrize(
    ("system", "tags"),
    [
        ("linux-x86_64", "cp311-cp311-manylinux_2_28_x86_64"),
        ("linux-x86_64", "cp311-cp311-linux_x86_64"),
        ("linux-x86_64", "cp311-cp311-manylinux1_x86_64.manylinux2014_x86_64"),
        ("linux-aarch64", "cp311-cp311-manylinux_2_28_aarch64"),
        ("macosx-11.0-arm64", "cp311-none-macosx_11_0_arm64"),
        ("macosx-11.0-arm64", "cp311-none-macosx_10_9_universal2"),
        ("win-amd64", "cp311-cp311-win_amd64"),
        ("win-amd64", "py3-none-any"),
    ],
)
def test_usable_wheels(monkeypatch, system, tags):
    machine(monkeypatch, system)
    base.check_usable(base.Path(f"torch-2.13.0+cpu-{tags}.whl"))


@pytest.mark.parametrize(
    ("system", "tags"),
    [
        ("linux-x86_64", "cp312-cp312-manylinux_2_28_x86_64"),
        ("linux-x86_64", "cp311-cp311d-manylinux_2_28_x86_64"),
        ("linux-x86_64", "cp311-cp311-manylinux_2_28_aarch64"),
        ("linux-x86_64", "cp311-cp311-manylinux_2_35_x86_64"),
        ("linux-x86_64", "cp311-cp311-musllinux_1_2_x86_64"),
        ("linux-x86_64", "cp311-cp311-macosx_10_9_x86_64"),
        ("linux-aarch64", "cp311-cp311-manylinux_2_28_x86_64"),
        ("macosx-11.0-arm64", "cp311-none-macosx_15_0_arm64"),
        ("macosx-11.0-arm64", "cp311-none-macosx_11_0_x86_64"),
        ("win-amd64", "cp311-cp311-win_arm64"),
        ("win-amd64", "cp311-cp311-linux_x86_64"),
    ],
)
def test_wheels_for_another_machine(monkeypatch, system, tags):
    """Each part of the tag counts."""
    machine(monkeypatch, system)
    with pytest.raises(ToolError, match="is not for this interpreter, cp311 on"):
        base.check_usable(base.Path(f"torch-2.13.0+cpu-{tags}.whl"))


def test_free_threaded_interpreter_needs_its_own_wheel(monkeypatch):
    machine(monkeypatch, "linux-x86_64")
    monkeypatch.setattr(base, "_interpreter", lambda: "cp314")
    monkeypatch.setattr(base, "_threading", lambda: "t")
    base.check_usable(base.Path("torch-2.13.0-cp314-cp314t-linux_x86_64.whl"))
    with pytest.raises(ToolError, match="cp314t on linux"):
        base.check_usable(base.Path("torch-2.13.0-cp314-cp314-linux_x86_64.whl"))


@pytest.mark.parametrize(
    ("version", "requirement", "fitting"),
    [
        (None, "torch==2.13.0", ["2.13.0", "2.13.0+cpu", "2.13.0+cu130"]),
        ("2.13.0+cpu", "torch==2.13.0+cpu", ["2.13.0+cpu"]),
    ],
)
def test_what_a_version_asks_for(version, requirement, fitting):
    wanted = base.wanted(version)
    assert wanted.requirement == requirement
    assert fits(wanted) == fitting


def fits(wanted):
    """The versions whose wheels fit."""
    versions = ["2.13.0", "2.13.0+cpu", "2.13.0+cu130", "2.13.01", "2.13.0.post1"]
    names = {version: f"torch-{version}-py3-none-any.whl" for version in versions}
    return [v for v, name in names.items() if fnmatch(name, wanted.pattern)]


@pytest.mark.parametrize(
    ("version", "requirement", "fitting"),
    [
        # With "==", pip might take a wheel of another variant.
        ("2.13.0", "torch===2.13.0", ["2.13.0"]),
        ("2.13.0+named.8.g1a2b3c4d", "torch===2.13.0", ["2.13.0"]),
        ("2.13.0+cpu", "torch==2.13.0+cpu", ["2.13.0+cpu"]),
        ("2.13.0+cpu.named.8.g1a2b3c4d", "torch==2.13.0+cpu", ["2.13.0+cpu"]),
        (None, "torch==2.13.0", ["2.13.0", "2.13.0+cpu", "2.13.0+cu130"]),
    ],
)
def test_what_an_installed_torch_asks_for(monkeypatch, version, requirement, fitting):
    monkeypatch.setattr(base, "installed_version", lambda: version)
    wanted = base.wanted_here()
    assert wanted.requirement == requirement
    assert fits(wanted) == fitting


@pytest.mark.parametrize("version", ["2.4.0+cpu", "2.13.0a0+ecf3bae", "2.99.0.dev1"])
def test_installed_torch_that_no_wheel_is_for(monkeypatch, version):
    monkeypatch.setattr(base, "installed_version", lambda: version)
    with pytest.raises(ToolError) as caught:
        base.wanted_here()
    for word in (
        f"torch {version} is installed",
        "The series is for ",
        "OPTIM_NAMES_RELEASE=2.13.0",
        "python -m tools apply",
    ):
        assert word in str(caught.value)


def test_variant_that_pip_cannot_get(pip):
    pip("sys.exit('ERROR: No matching distribution')")
    with pytest.raises(ToolError) as caught:
        base.find(base.Wanted("2.13.0", "rocm9.9"))
    for word in (
        "could not download torch==2.13.0+rocm9.9",
        "PIP_EXTRA_INDEX_URL",
        "OPTIM_NAMES_RELEASE=2.13.0,",
        "python -m tools apply",
        "No matching distribution",
    ):
        assert word in str(caught.value)


def test_release_for_a_later_python(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 9))
    with pytest.raises(ToolError, match=r"2\.13\.0 needs Python 3\.10 or later"):
        base._download(base.Wanted())


@pytest.mark.parametrize("hidden", [False, True])
def test_version_of_the_installed_torch(tmp_path, monkeypatch, hidden):
    """In the isolation of a build, pip hides what is installed by PYTHONPATH."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    folder = "Scripts" if sys.platform == "win32" else "bin"
    monkeypatch.setattr(sys, "executable", str(venv / folder / "python"))
    if hidden:
        (tmp_path / "sitecustomize.py").write_text(
            "import sys\nsys.path = [p for p in sys.path if 'site-packages' not in p]\n"
        )
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert base.installed_version() is None
    (site,) = venv.rglob("site-packages")
    shutil.unpack_archive(tiny_torch.make(tmp_path), site, "zip")
    assert base.installed_version() == "2.13.0+cpu"


def test_other_releases_in_the_cache_are_not_used():
    for version in ("2.12.0+cpu", "2.13.01", "2.13.0.post1"):
        tiny_torch.make(base.cache_folder(), version=version)
    assert base.cached(base.Wanted()) is None


def test_two_variants_in_the_cache():
    for version in ("2.13.0+cpu", "2.13.0+cu130"):
        tiny_torch.make(base.cache_folder(), version=version)
    with pytest.raises(ToolError) as caught:
        base.find(base.Wanted())
    for word in (
        "2.13.0+cpu",
        "2.13.0+cu130",
        "OPTIM_NAMES_RELEASE=2.13.0+cpu",
        base.VARIABLE,
    ):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("sys.exit('ERROR: No matching distribution')", ["No matching distribution"]),
        ("(dest / 'torch-2.13.0.part').write_text(''); sys.exit(2)", ["pip could not"]),
        ("(dest / 'torch-2.12.0-py3-none-any.whl').write_text('')", ["no wheel"]),
        ("", ["no wheel"]),
    ],
)
def test_failed_download_leaves_nothing(pip, lines, words):
    pip(lines)
    with pytest.raises(ToolError) as caught:
        base.find(base.Wanted())
    for word in [*words, "2.13.0", base.VARIABLE]:
        assert word in str(caught.value)
    assert list(base.cache_folder().iterdir()) == []


def test_cache_that_cannot_be_written(downloads, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("OPTIM_NAMES_CACHE", str(tmp_path / "file"))
    with pytest.raises(ToolError, match="OPTIM_NAMES_CACHE"):
        base.find(base.Wanted())


def test_no_pip_at_all(no_pip):
    with pytest.raises(ToolError, match="no pip to download"):
        base.find(base.Wanted())


def test_pip_that_is_hidden_by_pythonpath(tmp_path, monkeypatch):
    """As in pip's build isolation: its own site folder hides the real one."""
    pytest.importorskip("pip")
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nsys.path = [p for p in sys.path if 'site-packages' not in p]\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    environment = base.pip_environment()
    assert environment is not None
    assert "PYTHONPATH" not in environment
