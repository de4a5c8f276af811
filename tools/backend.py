"""The hooks that ``pip`` and other front ends call (PEP 517).

There is no hook for the metadata alone: without one, ``pip`` builds the wheel
once, reads the metadata from it, and installs that same wheel.
"""

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tools import base, source, wheel
from tools.errors import REPORTED, ToolError, sentence


#: What to start from: the name of the setting, and of the variable that is asked
#: if there is no setting.
_VARIABLES = {
    "source": source.VARIABLE,
    "base-wheel": base.VARIABLE,
    "release": base.RELEASE_VARIABLE,
}


@dataclass(frozen=True)
class Start:
    """What to start from: the first of these that is there.

    Attributes:
        wanted (Wanted): which official wheel to take from the cache or download.
        wheel (Path, optional): an official wheel.
        checkout (Path, optional): a PyTorch checkout.
    """

    wanted: base.Wanted
    wheel: Path | None = None
    checkout: Path | None = None


def add_start(command: argparse.ArgumentParser) -> None:
    """Add the options that say what to start from.

    Args:
        command (argparse.ArgumentParser): the command; it gets ``--base-wheel``,
            ``--release`` and ``--source``.
    """
    command.add_argument(
        "--base-wheel", dest="base-wheel", metavar="FILE", help="an official wheel"
    )
    command.add_argument(
        "--release",
        metavar="VERSION",
        help="a release, perhaps with a variant, e.g. 2.13.0+cpu: pip downloads the "
        "official wheel",
    )
    command.add_argument(
        "--source", metavar="DIR", help="a PyTorch checkout, to be compiled"
    )


def start(settings: Mapping[str, str | None], *, beside_torch: bool = False) -> Start:
    """What the user wants to start from.

    Args:
        settings (Mapping[str, str or None]): ``"source"``, ``"base-wheel"`` or
            ``"release"`` to what the user gave; one of them at most. If there is
            none, the environment is asked. Other keys play no part.
        beside_torch (bool): whether, if nothing is named, to take the release and
            variant of the torch that is installed, not the default release.

    Returns:
        Start: what it is.

    Raises:
        ToolError: if several are given, or a release is not supported.
    """
    given = {name: value for name in _VARIABLES if (value := settings.get(name))}
    if len(given) > 1:
        one, other, *_ = (f"{name} {value}" for name, value in given.items())
        raise ToolError(f"{one} and {other} are both named; name one of them.")
    for name, variable in _VARIABLES.items():
        if not given and (value := os.environ.get(variable)):
            given = {name: value}
    for name, value in given.items():
        if name == "source":
            return Start(base.Wanted(), checkout=Path(value))
        if name == "base-wheel":
            return Start(base.Wanted(), wheel=Path(value))
        return Start(base.wanted(value))
    return Start(base.wanted_here() if beside_torch else base.Wanted())


def make(start: Start, out_dir: Path, arguments: Sequence[str] = ()) -> Path:
    """Build the patched wheel.

    Args:
        start (Start): what to start from.
        out_dir (Path): the folder for the wheel.
        arguments (Sequence[str]): further arguments for PyTorch's own build.

    Returns:
        Path: the wheel.

    Raises:
        ToolError: if there are arguments but no checkout, or the wheel cannot be
            built.
    """
    if start.checkout:
        return source.build(start.checkout, out_dir, arguments)
    if arguments:
        raise ToolError(
            f"'{' '.join(arguments)}' is not understood. Arguments for PyTorch's own "
            "build need a checkout: name it with --source."
        )
    return wheel.build(start.wheel or base.find(start.wanted), out_dir)


def get_requires_for_build_wheel(
    config_settings: Mapping[str, object] | None = None,
) -> list[str]:
    """What the front end must install before a build.

    Args:
        config_settings (Mapping[str, object], optional): as for
            :func:`build_wheel`.

    Returns:
        list[str]: ``["pip"]`` if a wheel must be downloaded and the interpreter
        has no ``pip`` for that; else nothing.
    """
    with _reported():
        begin = start(_checked(config_settings), beside_torch=True)
        if begin.checkout or begin.wheel or base.cached(begin.wanted):
            return []
        return ["pip"] if base.pip_environment() is None else []


def build_wheel(
    wheel_directory: str,
    config_settings: Mapping[str, object] | None = None,
    metadata_directory: str | None = None,
) -> str:
    """Build the patched wheel.

    Args:
        wheel_directory (str): the folder to write it to.
        config_settings (Mapping[str, object], optional): one of ``base-wheel``,
            the path of an official wheel, ``source``, the path of a PyTorch
            checkout, and ``release``, with or without a variant. Relative paths
            start at the root of this repository.
        metadata_directory (str, optional): ignored.

    Returns:
        str: the file name of the wheel.

    Raises:
        SystemExit: with the message of whatever :func:`make` raises.
    """
    with _reported():
        begin = start(_checked(config_settings), beside_torch=True)
        if begin.wheel:
            base.check_usable(begin.wheel)
        return make(begin, Path(wheel_directory)).name


def get_requires_for_build_editable(
    config_settings: Mapping[str, object] | None = None,
) -> list[str]:
    """An editable install is refused; this hook is the first to be called.

    Args:
        config_settings (Mapping[str, object], optional): ignored.

    Raises:
        SystemExit: always.
    """
    with _reported():
        raise ToolError(
            "torch cannot be installed from here in editable form. To see edits at "
            "once, run 'python -m tools materialize', edit in build/tree, and run "
            "'python -m tools python SCRIPT'; to install, run 'pip install .'."
        )


def build_editable(
    wheel_directory: str,
    config_settings: Mapping[str, object] | None = None,
    metadata_directory: str | None = None,
) -> str:
    """An editable install is refused.

    Args:
        wheel_directory (str): ignored.
        config_settings (Mapping[str, object], optional): ignored.
        metadata_directory (str, optional): ignored.

    Raises:
        SystemExit: always.
    """
    return "".join(get_requires_for_build_editable())


def build_sdist(
    sdist_directory: str, config_settings: Mapping[str, object] | None = None
) -> str:
    """There is no source distribution; the repository takes its place.

    Args:
        sdist_directory (str): ignored.
        config_settings (Mapping[str, object], optional): ignored.

    Raises:
        SystemExit: always. PEP 517 has an exception for this, which not all
            front ends catch.
    """
    with _reported():
        raise ToolError(
            "This repository has no source distribution. Build the wheel alone: "
            "'python -m build --wheel', or 'pip wheel . --no-deps -w dist'."
        )


def _checked(config_settings: Mapping[str, object] | None) -> dict[str, str | None]:
    """The settings, if all of them are known."""
    settings: dict[str, str | None] = {}
    for name, value in (config_settings or {}).items():
        if name not in _VARIABLES:
            raise ToolError(
                f"The setting '{name}' is not known. There are: "
                f"{', '.join(_VARIABLES)}."
            )
        if not (isinstance(value, str) and value):
            raise ToolError(f"The setting '{name}' must be one word, not {value!r}.")
        settings[name] = value
    return settings


@contextmanager
def _reported() -> Iterator[None]:
    """End with the message alone; a front end shows all that a hook prints."""
    try:
        yield
    except REPORTED as error:
        raise SystemExit(f"error: {sentence(error)}") from error
