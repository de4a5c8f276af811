"""What the series makes of the files of a torch, in a wheel or installed."""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tools import files, layout, releases, series
from tools.errors import ToolError
from tools.series import LABEL, Patch


VERSION_FILE = "torch/version.py"

_VERSION_LINE = re.compile(rb"^(__version__ = ')([^'\r\n]+)(')", re.MULTILINE)
_LABEL = re.compile(rf"[+.]{LABEL}(?:\.([a-z0-9.]+))?$")
_DIFF = re.compile(rb"^(?=diff --git a/)", re.MULTILINE)


def labeled(version: str, label: str) -> str:
    """A version with the label of the series.

    Args:
        version (str): for example ``"2.13.0+cpu"``.
        label (str): as :func:`tools.series.label` returns it.

    Returns:
        str: for example ``"2.13.0+cpu.named.8.g1a2b3c4d"``.
    """
    return f"{version}{'.' if '+' in version else '+'}{label}"


def unlabeled(version: str) -> str:
    """A version without the label of the series, as it was published."""
    return _LABEL.sub("", version)


def revision_of(version: str) -> str | None:
    """The revision of the series that a version names; None if it has no label."""
    found = _LABEL.search(version)
    return (found[1] or "unknown") if found else None


def version_of(source: bytes) -> str | None:
    """The version in the content of ``torch/version.py``; None if there is none."""
    found = _VERSION_LINE.search(source)
    return found[2].decode("utf-8", "replace") if found else None


def without_label(source: bytes) -> bytes:
    """The content of ``torch/version.py`` with the version as it was published."""
    version = unlabeled(version_of(source) or "").encode()
    return _VERSION_LINE.sub(rb"\g<1>" + version + rb"\g<3>", source, count=1)


class Series:
    """All that is laid over one release.

    Args:
        release (str): a supported release, e.g. ``"2.13.0"``.
        patches_root (Path): the folder of the patches.
        overlay_root (Path): the folder of the overlay.

    Attributes:
        patches (list[Patch]): the patches for the release.
        promises (dict[str, tuple[str, str]]): as :func:`tools.series.promises`.
        overlay (dict[str, Path]): the new files by their path.
        revision (str): as :func:`tools.series.revision`.
        label (str): what versions get, as :func:`tools.series.label`.
        limits (str): what users have to know, as :func:`tools.releases.limits`.

    Raises:
        ToolError: if one of the folders is damaged.
    """

    def __init__(
        self,
        release: str,
        patches_root: Path = layout.PATCHES,
        overlay_root: Path = layout.OVERLAY,
    ) -> None:
        self.patches = series.patches(release, patches_root)
        self.promises = series.promises(release, patches_root)
        self.overlay = series.overlay_files(overlay_root)
        self.revision = series.revision(self.patches, self.overlay, patches_root)
        self.label = series.label(self.revision)
        self.limits = releases.limits(release, patches_root)


def contents(
    read: Callable[[str], bytes | None], laid: Series, name: str
) -> dict[str, bytes]:
    """The new content of each file that the series changes or adds.

    Patches may also change files outside ``torch/`` (PyTorch's own tests and
    documentation), which no wheel holds; those parts are left out. Files with the
    line endings of Windows keep them; patches are written for plain ones.

    Args:
        read (Callable[[str], bytes or None]): gives the content of an unpatched
            file by its POSIX path; None if there is no such file.
        laid (Series): the series for the release of the torch.
        name (str): what errors call the torch.

    Returns:
        dict[str, bytes]: POSIX path to content, ``torch/version.py`` included.

    Raises:
        ToolError: if a file is not the one that the patches are for.
    """
    found = _patched(read, laid, name)
    for path, file in laid.overlay.items():
        if read(path) is not None:
            raise ToolError(
                f"The overlay's {file} is in {name} already, as {path}. Change "
                "PyTorch's files by a patch, and give new files other names."
            )
        found[path] = file.read_bytes()
    source = found.get(VERSION_FILE) or read(VERSION_FILE) or b""
    version = version_of(source)
    if version is None:
        raise ToolError(
            f"{name} has no {VERSION_FILE} with a line '__version__ = ...'."
        )
    line = rb"\g<1>" + labeled(version, laid.label).encode() + rb"\g<3>"
    return {**found, VERSION_FILE: _VERSION_LINE.sub(line, source, count=1)}


def _patched(
    read: Callable[[str], bytes | None], laid: Series, name: str
) -> dict[str, bytes]:
    """The content of the patched files, by name."""
    originals: dict[str, bytes] = {}
    for path in filter(_is_packaged, series.touched_files(laid.patches)):
        content = read(path)
        if content is None:
            raise ToolError(
                f"The series changes {path}, which is not in {name}. Leave it out of "
                "the patches, or put a new file into the overlay."
            )
        originals[path] = content
    plain = {path: files.with_unix_lines(old) for path, old in originals.items()}
    with files.scratch() as scratch:
        tree = scratch / "tree"
        for path, content in plain.items():
            files.put(tree / path, content)
        if originals:
            parts = list(_packaged_parts(laid.patches, scratch))
            series.apply(parts, tree, laid.promises, name=name)
        results = {path: (tree / path).read_bytes() for path in originals}
    return {
        path: new if plain[path] == originals[path] else new.replace(b"\n", b"\r\n")
        for path, new in results.items()
    }


def _is_packaged(path: str) -> bool:
    return path.startswith("torch/")


def _packaged_parts(patches: Sequence[Patch], folder: Path) -> Iterator[Patch]:
    """Patches without what they change outside ``torch/``."""
    for patch in patches:
        outside = [f for f in series.touched_files([patch]) if not _is_packaged(f)]
        if not outside:
            yield patch
            continue
        marks = tuple(f"diff --git a/{name} ".encode() for name in outside)
        _, *diffs = _DIFF.split(patch.path.read_bytes())
        inside = b"".join(diff for diff in diffs if not diff.startswith(marks))
        if inside:
            part = folder / patch.name
            part.write_bytes(inside)
            yield Patch(name=patch.name, path=part)
