import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_torch

from tools import backend, base, source
from tools.backend import Start


SETTINGS = ("base-wheel", "release", "source")
COMMON = ("-h", "--help", "-d", "--dist-dir")
NAMES = (base.VARIABLE, base.RELEASE_VARIABLE, source.VARIABLE, "OPTIM_NAMES_CACHE")


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch, tmp_path):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPTIM_NAMES_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def repository(tmp_path):
    return tiny_torch.repository(tmp_path / "repository")


@pytest.fixture
def official(tmp_path):
    return tiny_torch.make(tmp_path / "official", tags="py3-none-any")


def run(repository, *arguments, **environment):
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=repository,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def test_each_way_gives_the_same_wheel(repository, official, tmp_path):
    pytest.importorskip("pip")
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    setup = ("setup.py", "bdist_wheel", "--base-wheel", official, "-d", one)
    pip = ("-m", "pip", "wheel", ".", "--no-deps", "--no-index", "-w")
    done = [
        run(repository, *setup),
        run(repository, *pip, two, "--config-settings", f"base-wheel={official}"),
        run(repository, *pip, three, **{base.VARIABLE: str(official)}),
    ]
    for process in done:
        assert process.returncode == 0, process.stderr + process.stdout
    wheels = [next(folder.iterdir()) for folder in (one, two, three)]
    label = tiny_torch.label(repository)
    assert {w.name for w in wheels} == {f"torch-2.13.0+cpu.{label}-py3-none-any.whl"}
    assert len({w.read_bytes() for w in wheels}) == 1
    assert done[0].stdout == f"{wheels[0]}\n"
    assert done[0].stderr == ""
    held = tiny_torch.check_record(wheels[0])
    assert b"patched" in held["torch/optim/optimizer.py"]
    assert "torch/optim/_names/keys.py" in held


def test_default_folder_is_dist(repository, official):
    done = run(repository, "setup.py", "bdist_wheel", "--base-wheel", official)
    assert done.returncode == 0, done.stderr
    assert len(list((repository / "dist").glob("*.whl"))) == 1


@pytest.mark.parametrize(
    "command", [["setup.py", "bdist_wheel"], ["-m", "tools", "wheel"]]
)
def test_release_with_a_variant(repository, command):
    for version in ("2.13.0+cpu", "2.13.0+cu130"):
        tiny_torch.make(base.cache_folder(), version=version)
    done = run(repository, *command)
    assert "Name the release with its variant" in done.stderr
    done = run(repository, *command, "--release", "2.13.0+cu130")
    assert done.returncode == 0, done.stderr
    (built,) = (repository / "dist").iterdir()
    assert built.name.startswith("torch-2.13.0+cu130.named.")


def test_pip_shows_the_message_and_no_traceback(repository, tmp_path):
    pytest.importorskip("pip")
    setting = f"base-wheel={tmp_path / 'none.whl'}"
    pip = ("-m", "pip", "wheel", ".", "--no-deps", "--no-index", "-w", tmp_path / "w")
    done = run(repository, *pip, "--config-settings", setting)
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "none.whl does not exist" in said
    assert "Traceback" not in said


def test_setup_from_a_checkout(repository, tmp_path):
    from test_source import SETUP

    files = {
        "setup.py": SETUP,
        "version.txt": "2.13.0a0\n",
        "torch/optim/adam.py": tiny_torch.ADAM,
        "torch/optim/optimizer.py": tiny_torch.OPTIMIZER,
    }
    for name, text in files.items():
        path = tmp_path / "pytorch" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    build = ("setup.py", "bdist_wheel", "--plat-name", "any")
    done = run(repository, *build, "--source", tmp_path / "pytorch")
    assert done.returncode == 0, done.stderr
    (wheel,) = (repository / "dist").iterdir()
    assert '"--plat-name", "any"' in wheel.read_text()


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["install"], 2, "'install' is not supported"),
        (["sdist"], 2, "pip install ."),
        (["bdist_wheel", "--base-wheel", "none.whl"], 1, "none.whl does not exist"),
        (["bdist_wheel", "--plat-name", "any"], 1, "--plat-name any"),
        (["bdist_wheel", "--base-wheel", "a", "--source", "b"], 1, "one of them"),
        (["bdist_wheel", "--source", "none"], 1, "not a PyTorch checkout"),
    ],
)
def test_wrong_commands(repository, arguments, status, words):
    done = run(repository, "setup.py", *arguments)
    assert done.returncode == status
    assert words in done.stderr
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
    assert not (repository / "dist").exists()


def test_help_tells_the_options(repository):
    done = run(repository, "setup.py", "bdist_wheel", "--help")
    assert done.returncode == 0
    for word in ("--dist-dir", "--base-wheel", "--release", "--source", *NAMES):
        assert word in done.stdout
    assert run(repository, "setup.py", "--name").stdout == "torch\n"
    version = f"2.13.0+{tiny_torch.label(repository)}\n"
    assert run(repository, "setup.py", "--version").stdout == version


def test_same_option_has_the_same_name_everywhere(repository):
    helps = [
        run(repository, *command, "--help").stdout
        for command in (["setup.py", "bdist_wheel"], ["-m", "tools", "wheel"])
    ]
    one, other = (set(re.findall(r"(?<!\S)--?[a-z][a-z-]*", text)) for text in helps)
    assert one == other - {"-m"} == {*(f"--{name}" for name in SETTINGS), *COMMON}
    materialize = run(repository, "-m", "tools", "materialize", "--help").stdout
    assert all(f"--{name}" in materialize for name in SETTINGS)


def test_requirements(official, tmp_path, monkeypatch):
    monkeypatch.setattr(base, "pip_environment", lambda: None)
    requires = backend.get_requires_for_build_wheel
    assert requires() == ["pip"]
    assert requires({}) == ["pip"]
    assert requires({"base-wheel": str(official)}) == []
    assert requires({"source": str(tmp_path)}) == []
    monkeypatch.setattr(base, "pip_environment", dict)
    # An empty environment is an environment, too.
    assert requires() == []


@pytest.mark.parametrize(
    "settings",
    [
        {"wheel": "a"},
        {"base-wheel": ["a", "b"]},
        {"source": ""},
        {"release": ["2.13.0"]},
        {"--global-option": "a"},
    ],
)
def test_wrong_settings(tmp_path, settings):
    (name,) = settings
    for hook in (
        lambda: backend.get_requires_for_build_wheel(settings),
        lambda: backend.build_wheel(str(tmp_path / "out"), settings),
    ):
        with pytest.raises(SystemExit, match=f"error: The setting '{name}'"):
            hook()


@pytest.mark.parametrize(
    "tags",
    ["cp39-cp39-any", "py3-cp39-any", "py3-none-plan9_mips", "cp39-none-any.win_amd64"],
)
def test_wheel_for_another_machine(repository, tmp_path, tags):
    """pip would install it; for the command line it is one more platform."""
    path = tiny_torch.make(tmp_path / "official", tags=tags)
    with pytest.raises(SystemExit, match="is not for this interpreter"):
        backend.build_wheel(str(tmp_path / "out"), {"base-wheel": str(path)})
    assert not (tmp_path / "out").exists()
    done = run(repository, "setup.py", "bdist_wheel", "--base-wheel", path)
    assert done.returncode == 0, done.stderr


def test_what_is_named_comes_first(tmp_path, monkeypatch):
    """An argument before the environment, a checkout before a wheel and a release."""
    monkeypatch.setattr(base, "installed_version", lambda: "2.13.0+cpu")
    default, cpu = base.Wanted("2.13.0"), base.Wanted("2.13.0", "cpu")
    start = backend.start
    assert start({}) == Start(default)
    assert start({}, beside_torch=True) == Start(cpu)
    monkeypatch.setenv(base.RELEASE_VARIABLE, "2.13.0+cu130")
    named = Start(base.Wanted("2.13.0", "cu130"))
    assert start({}) == start({}, beside_torch=True) == named
    monkeypatch.setenv(base.VARIABLE, "a.whl")
    assert start({}, beside_torch=True) == Start(default, wheel=Path("a.whl"))
    monkeypatch.setenv(source.VARIABLE, "pytorch")
    assert start({}) == Start(default, checkout=Path("pytorch"))
    assert start({"base-wheel": "b.whl"}) == Start(default, wheel=Path("b.whl"))
    assert start({"release": "2.13.0+cpu"}) == Start(cpu)
    assert start({"release": "2.13.0"}, beside_torch=True) == Start(default)


@pytest.mark.parametrize("version", ["2.4.0", "2.13.0a0+git1234", "nightly"])
@pytest.mark.parametrize("how", ["setting", "environment"])
def test_release_that_is_not_supported(repository, monkeypatch, version, how):
    if how == "setting":
        done = run(repository, "setup.py", "bdist_wheel", "--release", version)
    else:
        variable = {base.RELEASE_VARIABLE: version}
        done = run(repository, "setup.py", "bdist_wheel", **variable)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1
    assert line.startswith("error: ")
    assert version in line
    assert "The series is for 2.13.0" in line


HOOKS = {
    "get_requires_for_build_editable": "python -m tools python SCRIPT",
    "build_editable": "python -m tools python SCRIPT",
    "build_sdist": "python -m build --wheel",
}


@pytest.mark.parametrize("hook", HOOKS)
def test_hooks_that_do_not_apply(repository, hook):
    done = run(repository, "-c", f"import tools.backend as b; b.{hook}({{}})")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert HOOKS[hook] in line


def test_editable_install_ends_at_once(repository):
    pytest.importorskip("pip")
    done = run(repository, "-m", "pip", "install", "--no-index", "-e", ".")
    said = done.stdout + done.stderr
    assert done.returncode == 1
    assert "torch cannot be installed from here in editable form" in said
    assert "Traceback" not in said


@pytest.mark.skipif(os.name == "nt", reason="shells differ in what they quote")
def test_command_of_a_refusal_can_be_pasted(repository, tmp_path):
    path = tiny_torch.make(tmp_path / "my wheels", tags="cp39-none-any")
    with pytest.raises(SystemExit) as caught:
        backend.build_wheel(str(tmp_path / "out"), {"base-wheel": str(path)})
    command = str(caught.value).partition("run '")[2].removesuffix("'.")
    assert command.startswith("python setup.py bdist_wheel --base-wheel ")
    command = command.replace("python", sys.executable, 1)
    done = subprocess.run(command, shell=True, cwd=repository, capture_output=True)
    assert done.returncode == 0, done.stderr
