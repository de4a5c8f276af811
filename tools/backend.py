"""The hooks that ``pip`` and other front ends call (PEP 517).

There is no hook for the metadata alone: without one, ``pip`` builds the wheel
once, reads the metadata from it, and installs that same wheel.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tools import base, source, wheel
from tools.errors import REPORTED, ToolError, sentence


_SETTINGS = ("base-wheel", "source")


def make(
    base_wheel: Path | None,
    checkout: Path | None,
    out_dir: Path,
    arguments: Sequence[str] = (),
) -> Path:
    """Build the patched wheel from whatever the user named.

    Args:
        base_wheel (Path, optional): an official wheel.
        checkout (Path, optional): a PyTorch checkout. With neither, the
            environment is asked for one, and then for a wheel; failing both,
            the official wheel is downloaded.
        out_dir (Path): the folder for the wheel.
        arguments (Sequence[str]): further arguments for PyTorch's own build.

    Returns:
        Path: the wheel.

    Raises:
        ToolError: if both are named, there are arguments but no checkout, or
            the wheel cannot be built.
    """
    if base_wheel and checkout:
        raise ToolError(
            f"The wheel {base_wheel} and the checkout {checkout} are both named as the "
            "base; name one of them."
        )
    checkout = None if base_wheel else source.checkout(checkout)
    if checkout:
        return source.build(checkout, out_dir, arguments)
    if arguments:
        raise ToolError(
            f"'{' '.join(arguments)}' is not understood. Arguments for PyTorch's own "
            "build need a checkout: name it with --source."
        )
    return wheel.build(base.find(base_wheel), out_dir)


def get_requires_for_build_wheel(
    config_settings: Mapping[str, object] | None = None,
) -> list[str]:
    """What the front end must install before a build.

    Args:
        config_settings (Mapping[str, object], optional): as for
            :func:`build_wheel`.

    Returns:
        list[str]: ``["pip"]`` if the base release must be downloaded and the
        interpreter has no ``pip`` for that; else nothing.
    """
    with _reported():
        base_wheel, checkout = _settings(config_settings)
        if source.checkout(checkout) or base.named_wheel(base_wheel) or base.cached():
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
        config_settings (Mapping[str, object], optional): ``base-wheel``, the
            path of an official wheel, or ``source``, the path of a PyTorch
            checkout; relative paths start at the root of this repository.
        metadata_directory (str, optional): ignored.

    Returns:
        str: the file name of the wheel.

    Raises:
        SystemExit: with the message of whatever :func:`make` raises.
    """
    with _reported():
        base_wheel, checkout = _settings(config_settings)
        named = base.named_wheel(base_wheel)
        if named and (base_wheel or not source.checkout(checkout)):
            base.check_usable(named)
        return make(base_wheel, checkout, Path(wheel_directory)).name


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


def _settings(
    config_settings: Mapping[str, object] | None,
) -> tuple[Path | None, Path | None]:
    """The base wheel and the checkout that the settings name."""
    given = dict(config_settings or {})
    values = [given.pop(name, None) for name in _SETTINGS]
    if given:
        raise ToolError(
            f"The setting '{next(iter(given))}' is not known. There are: "
            f"{', '.join(_SETTINGS)}."
        )
    paths: list[Path | None] = []
    for name, value in zip(_SETTINGS, values):
        if value is not None and not (isinstance(value, str) and value):
            raise ToolError(f"The setting '{name}' must be one path, not {value!r}.")
        paths.append(Path(value) if value else None)
    base_wheel, checkout = paths
    return base_wheel, checkout


@contextmanager
def _reported() -> Iterator[None]:
    """End with the message alone; a front end shows all that a hook prints."""
    try:
        yield
    except REPORTED as error:
        raise SystemExit(f"error: {sentence(error)}") from error
