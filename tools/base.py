"""The official wheel to start from, found or downloaded."""

import os
import platform
import re
import shlex
import subprocess
import sys
import sysconfig
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tools import files, layout, releases
from tools.errors import ToolError
from tools.patched import unlabeled


#: Names an official wheel to use instead of a downloaded one.
VARIABLE = "OPTIM_NAMES_BASE_WHEEL"

#: Names the release, and perhaps the variant, of the wheel to download.
RELEASE_VARIABLE = "OPTIM_NAMES_RELEASE"

#: What the file beside a cached wheel is called, which tells damage.
_CHECKSUM = ".crc32"

_BLOCK = 256 * 1024

#: Names from before the version of the C library was in them.
_LEGACY = {
    "manylinux1_": "manylinux_2_5_",
    "manylinux2010_": "manylinux_2_12_",
    "manylinux2014_": "manylinux_2_17_",
}


@dataclass(frozen=True)
class Wanted:
    """Which official wheel to start from.

    Attributes:
        release (str): a supported release, e.g. ``"2.13.0"``.
        variant (str, optional): what follows the release in the wheel's version:
            ``"cpu"``, ``"cu130"``, or ``""`` if nothing does. Default: whatever
            the user's configuration of ``pip`` gives.
    """

    release: str = releases.DEFAULT
    variant: str | None = None

    @property
    def requirement(self) -> str:
        """The wheel as ``pip`` is asked for it."""
        if self.variant:
            return f"torch=={self.release}+{self.variant}"
        # With two signs, a wheel of any variant would do.
        return f"torch{'==' if self.variant is None else '==='}{self.release}"

    @property
    def pattern(self) -> str:
        """What the file names of such wheels match."""
        end = {None: "[+-]*", "": "-*"}.get(self.variant, f"+{self.variant}-*")
        return f"torch-{self.release}{end}.whl"


def wanted(version: str | None = None) -> Wanted:
    """What a version asks for.

    Args:
        version (str, optional): a release, with or without a variant:
            ``"2.13.0"`` or ``"2.13.0+cpu"``. Default: the default release.

    Returns:
        Wanted: of any variant if the version has none.

    Raises:
        ToolError: if the release is not supported.
    """
    if not version:
        return Wanted()
    _, plus, variant = version.partition("+")
    return Wanted(releases.find(version).version, variant if plus else None)


def wanted_here() -> Wanted:
    """The release and variant of the torch that ``pip`` would replace.

    Returns:
        Wanted: those; the default release if no torch is installed.

    Raises:
        ToolError: if the installed torch is not of a supported release.
    """
    version = installed_version()
    if version is None:
        return Wanted()
    published = unlabeled(version)
    try:
        release = releases.find(published).version
    except ToolError as error:
        raise ToolError(
            f"torch {version} is installed for {sys.executable}. {error} To replace it, "
            f"name a release: {RELEASE_VARIABLE}={releases.DEFAULT}. If its Python files "
            "are those of a release that the series is for, 'python -m tools apply' "
            "changes it in place."
        ) from error
    return Wanted(release, published.partition("+")[2])


def installed_version() -> str | None:
    """The version of the torch that ``pip`` would replace, as ``pip`` knows it.

    Returns:
        str, optional: for example ``"2.13.0+cpu"``; None if there is no torch.
    """
    ask = "import importlib.metadata as m; print(m.version('torch'))"
    for environment in _environments():
        done = _python(environment, "-c", ask)
        if done.returncode == 0:
            return done.stdout.decode().strip()
    return None


def find(what: Wanted) -> Path:
    """The official wheel, from the cache or else downloaded by ``pip``.

    Args:
        what (Wanted): which wheel.

    Returns:
        Path: the wheel. Its content is not looked at.

    Raises:
        ToolError: if the cache holds several, or it cannot be downloaded.
    """
    return cached(what) or _download(what)


def named_wheel(given: Path | None = None) -> Path | None:
    """The wheel that the user named, by an argument or in the environment.

    Args:
        given (Path, optional): the argument.

    Returns:
        Path, optional: the wheel, whether it exists or not.
    """
    configured = os.environ.get(VARIABLE)
    return given or (Path(configured) if configured else None)


def cached(what: Wanted) -> Path | None:
    """The wheel that an earlier build downloaded for the running interpreter.

    Args:
        what (Wanted): which wheel.

    Returns:
        Path, optional: the wheel, if there is one that is not damaged.

    Raises:
        ToolError: if there are several variants, and none is asked for.
    """
    wheels = sorted(filter(Path.is_file, cache_folder().glob(what.pattern)))
    if len(wheels) > 1:
        names = " and ".join(wheel.name for wheel in wheels)
        variant = wheels[0].name.split("-")[1]
        raise ToolError(
            f"The cache {cache_folder()} holds {names}. Name the release with its "
            f"variant, e.g. {RELEASE_VARIABLE}={variant}, or the wheel to use in "
            f"{VARIABLE}."
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


def _download(what: Wanted) -> Path:
    """Have ``pip`` fetch the wheel, and move it into the cache when complete."""
    oldest = releases.find(what.release).python
    if sys.version_info[:2] < oldest:
        raise ToolError(
            f"PyTorch {what.release} needs Python {oldest[0]}.{oldest[1]} or later, and "
            f"{sys.executable} is {sys.version_info[0]}.{sys.version_info[1]}."
        )
    environment = pip_environment()
    if environment is None:
        raise ToolError(
            f"{sys.executable} has no pip to download {what.requirement} with. "
            f"Install pip for it, or name an official wheel in {VARIABLE}."
        )
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with files.scratch(folder) as scratch:
            _run_pip(environment, what, scratch)
            wheels = list(scratch.glob(what.pattern))
            if len(wheels) != 1:
                raise ToolError(
                    f"pip downloaded no wheel of {what.requirement}. Get an official "
                    f"one for this interpreter, and name it in {VARIABLE}."
                )
            target = folder / wheels[0].name
            # pip has compared it with the index.
            note = target.with_name(target.name + _CHECKSUM)
            _write_checksum(note, _checksum(wheels[0]))
            # Whatever is there is damaged.
            for old in folder.glob(what.pattern):
                old.unlink()
            os.replace(wheels[0], target)
    except OSError as error:
        raise ToolError(
            f"The cache {folder} cannot be written: {error.strerror}. Name another "
            "folder in OPTIM_NAMES_CACHE."
        ) from error
    return target


def _run_pip(environment: Mapping[str, str], what: Wanted, folder: Path) -> None:
    """Download the wheel into a folder."""
    options = ("--only-binary", "torch")
    reason = pip_download(environment, what.requirement, folder, options)
    if reason is not None:
        advice = f"or name an official wheel in {VARIABLE}."
        if what.variant is not None:
            advice = (
                "which may lack the index that has this variant (PIP_EXTRA_INDEX_URL). "
                f"Or name an official wheel in {VARIABLE}; or the release alone, "
                f"{RELEASE_VARIABLE}={what.release}, for the variant that pip finds; or "
                "change an installed torch in place: python -m tools apply."
            )
        raise ToolError(
            f"pip could not download {what.requirement} for {sys.executable}. Check "
            f"the network and pip's configuration, {advice} What pip says: {reason}"
        )


def pip_download(
    environment: Mapping[str, str],
    requirement: str,
    folder: Path,
    options: Sequence[str],
) -> str | None:
    """Have ``pip`` download a wheel, with its own progress on a terminal.

    Args:
        environment (Mapping[str, str]): as :func:`pip_environment` returns it.
        requirement (str): what to download, e.g. ``"torch==2.13.0"``.
        folder (Path): where it goes.
        options (Sequence[str]): more options of ``pip download``.

    Returns:
        str or None: what ``pip`` says of a failure; None if there was none.
    """
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download"]
    quiet = [] if sys.stderr.isatty() else ["--quiet", "--progress-bar", "off"]
    command += [*quiet, "--dest", str(folder), "--no-deps", *options, requirement]
    if not quiet:
        # Standard output may carry a result of its own; progress goes beside it.
        done = subprocess.run(command, env=environment, stdout=2)
        reason = "its messages are above"
    else:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        reason = (done.stdout or b"").decode("utf-8", "replace").strip()
    return reason if done.returncode else None


def pip_environment() -> dict[str, str] | None:
    """The environment in which the running interpreter has ``pip``.

    Returns:
        dict[str, str], optional: the environment; None if there is no ``pip``.
    """
    for environment in _environments():
        if _python(environment, "-m", "pip", "--version").returncode == 0:
            return environment
    return None


def _environments() -> Iterator[dict[str, str]]:
    """Environments in which the interpreter may find what is installed for it.

    In the isolation of its own builds, ``pip`` hides the site-packages folder
    that it installs into behind ``PYTHONPATH``, so that the second is without.
    """
    yield dict(os.environ)
    hiding = ("PYTHONPATH", "PYTHONNOUSERSITE")
    yield {name: value for name, value in os.environ.items() if name not in hiding}


def _python(
    environment: Mapping[str, str], *arguments: str
) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
