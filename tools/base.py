"""The base release, found or downloaded."""

import os
import platform
import re
import shlex
import subprocess
import sys
import sysconfig
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tools import files, layout, releases
from tools.errors import ToolError


#: The PyTorch release that the series applies to.
BASE_RELEASE = releases.DEFAULT

#: Names an official wheel to use instead of a downloaded one.
VARIABLE = "OPTIM_NAMES_BASE_WHEEL"

_WHEELS = f"torch-{BASE_RELEASE}[+-]*.whl"

#: What the file beside a cached wheel is called, which tells damage.
_CHECKSUM = ".crc32"

_BLOCK = 256 * 1024

#: Names from before the version of the C library was in them.
_LEGACY = {
    "manylinux1_": "manylinux_2_5_",
    "manylinux2010_": "manylinux_2_12_",
    "manylinux2014_": "manylinux_2_17_",
}


def find(given: Path | None = None) -> Path:
    """The official wheel of the base release.

    The first of: ``given``; ``$OPTIM_NAMES_BASE_WHEEL``; the wheel in the cache
    for the running interpreter; what ``pip`` downloads, which then is the wheel
    in the cache. The user's configuration of ``pip`` decides which variant
    (CPU, CUDA, ...) that is.

    Args:
        given (Path, optional): a wheel that the user named.

    Returns:
        Path: the wheel. Its content is not looked at.

    Raises:
        ToolError: if a named wheel does not exist, the cache holds several, or
            it cannot be downloaded.
    """
    named = named_wheel(given)
    if named is not None:
        if not named.is_file():
            what = "is not a file" if named.exists() else "does not exist"
            raise ToolError(
                f"The wheel {named.absolute()} {what}. Give the path of an official "
                f"wheel of torch {BASE_RELEASE}, or none to have it downloaded."
            )
        return named
    return cached() or _download()


def named_wheel(given: Path | None = None) -> Path | None:
    """The wheel that the user named, by an argument or in the environment.

    Args:
        given (Path, optional): the argument.

    Returns:
        Path, optional: the wheel, whether it exists or not.
    """
    configured = os.environ.get(VARIABLE)
    return given or (Path(configured) if configured else None)


def cached() -> Path | None:
    """The wheel that an earlier build downloaded for the running interpreter.

    Returns:
        Path, optional: the wheel, if there is one that is not damaged.

    Raises:
        ToolError: if there are several.
    """
    wheels = sorted(filter(Path.is_file, cache_folder().glob(_WHEELS)))
    if len(wheels) > 1:
        names = " and ".join(wheel.name for wheel in wheels)
        raise ToolError(
            f"The cache {cache_folder()} holds {names}. Delete all but one of them, or "
            f"name the one to use in {VARIABLE}."
        )
    return wheels[0] if wheels and _is_intact(wheels[0]) else None


def _is_intact(wheel: Path) -> bool:
    """Whether a cached wheel is as it was; looked into once, and then compared."""
    checksum = _checksum(wheel)
    note = wheel.with_name(wheel.name + _CHECKSUM)
    if files.content(note) == checksum:
        return True
    try:
        with zipfile.ZipFile(wheel) as archive:
            broken = archive.testzip()
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        broken = str(error)
    if broken is None:
        _write_checksum(note, checksum)
        return True
    print(f"{wheel} is damaged ({broken}); it is fetched anew.", file=sys.stderr)
    return False


def _checksum(wheel: Path) -> bytes:
    crc = 0
    block = memoryview(bytearray(_BLOCK))
    with wheel.open("rb", buffering=0) as file:
        while size := file.readinto(block):
            crc = zlib.crc32(block[:size], crc)
    return b"%08x\n" % crc


def _write_checksum(note: Path, checksum: bytes) -> None:
    # A cache that cannot be written serves all the same.
    with suppress(OSError):
        note.write_bytes(checksum)


def cache_folder() -> Path:
    """The part of the cache for wheels that the running interpreter can use.

    Returns:
        Path: for example ``build/cache/cp311-linux_x86_64``.
    """
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    return layout.cache() / f"{_interpreter()}{_threading()}-{platform}"


def _interpreter() -> str:
    """The running interpreter as wheels call it: ``cp311``."""
    name = {"cpython": "cp", "pypy": "pp"}.get(sys.implementation.name, "py")
    return f"{name}{sys.version_info.major}{sys.version_info.minor}"


def _threading() -> str:
    """What a free-threaded interpreter adds to its name."""
    return "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""


def check_usable(wheel: Path) -> None:
    """Refuse a wheel that the running interpreter cannot import.

    ``pip`` does not look at the tags of a wheel that it has built itself.

    Args:
        wheel (Path): a wheel under its published name. One without any tags in
            its name passes.

    Raises:
        ToolError: if its tags are for another interpreter or system.
    """
    tags = wheel.stem.rsplit("-", 3)[1:]
    if len(tags) != 3:
        return
    python, abi, platforms = (tag.split(".") for tag in tags)
    version = f"py{sys.version_info.major}{sys.version_info.minor}"
    usable = (
        {_interpreter(), version, "py3"} & set(python)
        and {_interpreter() + _threading(), "none"} & set(abi)
        and any(map(_fits_platform, platforms))
    )
    if not usable:
        command = ["python", "setup.py", "bdist_wheel", "--base-wheel", str(wheel)]
        raise ToolError(
            f"{wheel} is not for this interpreter, {_interpreter()}{_threading()} on "
            f"{_system()}. Name one that is; or, to patch it for another machine, run "
            f"'{shlex.join(command)}'."
        )


def _system() -> str:
    """The system and machine as wheels call them: ``linux_x86_64``."""
    return re.sub(r"[-.]", "_", sysconfig.get_platform())


def _fits_platform(tag: str) -> bool:
    """Whether this machine can load what is in a wheel with a platform tag."""
    if tag in ("any", _system()):
        return True
    for old, new in _LEGACY.items():
        tag = tag.replace(old, new)
    found = re.fullmatch(r"(manylinux|musllinux|macosx)_(\d+)_(\d+)_(\w+)", tag)
    if found is None:
        return False
    needed, machine = (int(found[2]), int(found[3])), found[4]
    if found[1] == "macosx":
        there = platform.mac_ver()[0] if sys.platform == "darwin" else ""
        return machine in (platform.machine(), "universal2") and needed <= _two(there)
    if machine != _system().removeprefix("linux_"):
        return False
    name, there = platform.libc_ver()
    if found[1] == "musllinux":
        return name != "glibc"
    return name == "glibc" and needed <= _two(there)


def _two(version: str) -> tuple[int, ...]:
    """The first two numbers of a version."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


def _download() -> Path:
    """Have ``pip`` fetch the wheel, and move it into the cache when complete."""
    environment = pip_environment()
    if environment is None:
        raise ToolError(
            f"{sys.executable} has no pip to download torch {BASE_RELEASE} with. "
            f"Install pip for it, or name an official wheel in {VARIABLE}."
        )
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with files.scratch(folder) as scratch:
            _run_pip(environment, scratch)
            wheels = list(scratch.glob(_WHEELS))
            if len(wheels) != 1:
                raise ToolError(
                    f"pip downloaded no wheel of torch {BASE_RELEASE}. Get an official "
                    f"one for this interpreter, and name it in {VARIABLE}."
                )
            target = folder / wheels[0].name
            # Whatever is there is damaged.
            for old in folder.glob(_WHEELS):
                old.unlink()
            # pip has compared it with the index.
            note = target.with_name(target.name + _CHECKSUM)
            _write_checksum(note, _checksum(wheels[0]))
            os.replace(wheels[0], target)
    except OSError as error:
        raise ToolError(
            f"The cache {folder} cannot be written: {error.strerror}. Name another "
            "folder in OPTIM_NAMES_CACHE."
        ) from error
    return target


def _run_pip(environment: Mapping[str, str], folder: Path) -> None:
    """Download the wheel into a folder, with pip's own progress on a terminal."""
    requirement = f"torch=={BASE_RELEASE}"
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download"]
    command += ["--no-deps", "--only-binary", "torch", "--dest", str(folder)]
    if sys.stderr.isatty():
        # Standard output may carry a result of its own; progress goes beside it.
        done = subprocess.run([*command, requirement], env=environment, stdout=2)
        reason = "its messages are above"
    else:
        done = subprocess.run(
            [*command, "--quiet", "--progress-bar", "off", requirement],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        reason = (done.stdout or b"").decode("utf-8", "replace").strip()
    if done.returncode:
        raise ToolError(
            f"pip could not download torch {BASE_RELEASE} for {sys.executable}. Check "
            "the network and pip's configuration, or name an official wheel in "
            f"{VARIABLE}. What pip says: {reason}"
        )


def pip_environment() -> dict[str, str] | None:
    """The environment in which the running interpreter has ``pip``.

    In the isolation of its own builds, ``pip`` hides the site-packages folder
    that it lives in behind ``PYTHONPATH``; so that variable is also tried
    without.

    Returns:
        dict[str, str], optional: the environment; None if there is no ``pip``.
    """
    plain = dict(os.environ)
    exposed = {
        name: value
        for name, value in plain.items()
        if name not in ("PYTHONPATH", "PYTHONNOUSERSITE")
    }
    for environment in (plain, exposed):
        found = subprocess.run(
            [sys.executable, "-m", "pip", "--version"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        if found.returncode == 0:
            return environment
    return None
