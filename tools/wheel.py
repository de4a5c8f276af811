"""A patched wheel from an official one.

What goes in is the wheel that PyTorch published for the base release, for any
platform; what comes out is the same wheel with the series and the overlay laid
over it, under a version of its own. Most of its bytes are copied as they are.
"""

import base64
import csv
import errno
import hashlib
import os
import re
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote

from tools import archive, files, progress, series
from tools.base import BASE_RELEASE
from tools.errors import NO_SPACE, ToolError
from tools.series import LABEL


_VERSION_FILE = "torch/version.py"
_VERSION_LINE = re.compile(rb"^(__version__ = ')([^'\r\n]+)(')", re.MULTILINE)
_DIFF = re.compile(rb"^(?=diff --git a/)", re.MULTILINE)


@dataclass(frozen=True)
class _Wheel:
    """An official wheel, open for reading.

    Attributes:
        path (Path): where it lies.
        file (BinaryIO): the open file.
        entries (dict[str, archive.Entry]): what is in it, in order.
        info (str): the name of the dist-info folder.
        version (str): the version in the metadata.
        record (dict[str, str]): path to its line in RECORD, after the path.
    """

    path: Path
    file: BinaryIO
    entries: dict[str, archive.Entry]
    info: str
    version: str
    record: dict[str, str]


def build(
    base: Path,
    out_dir: Path,
    *,
    patches: Sequence[series.Patch] | None = None,
    overlay: Mapping[str, Path] | None = None,
) -> Path:
    """Write the patched form of an official wheel.

    The same wheel, series and overlay give the same bytes, on any machine.
    Patches may also change files outside ``torch/`` (PyTorch's own tests and
    documentation), which no wheel holds; those parts are left out.

    Args:
        base (Path): a wheel of the base release, as it was published.
        out_dir (Path): the folder to write to; it is made if need be.
        patches (Sequence[series.Patch], optional): the patches. Default: the
            series of this repository.
        overlay (Mapping[str, Path], optional): the new files by their path in
            the wheel. Default: the overlay of this repository.

    Returns:
        Path: the patched wheel; one of the same name is replaced.

    Raises:
        ToolError: if ``base`` is damaged, is no wheel of the base release or is
            patched already, a patch does not apply, or the result cannot be
            written. ``out_dir`` then holds nothing new.
    """
    patches = series.patches() if patches is None else patches
    overlay = series.overlay_files() if overlay is None else overlay
    label = series.label(series.revision(patches, overlay))
    with _opened(base) as wheel:
        new_version = _labeled(wheel.version, label)
        target = out_dir / _file_name(wheel, new_version)
        changed = _patched(wheel, patches)
        changed |= _laid_over(wheel, overlay)
        changed |= _versions(wheel, changed, new_version, label)
        names = _new_names(wheel, new_version)
        changed[f"{wheel.info}/RECORD"] = _new_record(wheel, changed, names)
        _write(wheel, changed, names, target)
    return target


@contextmanager
def _opened(path: Path) -> Iterator[_Wheel]:
    """Open a wheel, and turn what is wrong with it into one clear sentence."""
    if not path.is_file():
        # To open a pipe would wait for its other end.
        what = "is not a file" if path.exists() else "does not exist"
        raise ToolError(f"{path} {what}. Give an official wheel of torch.")
    try:
        # Unbuffered: headers are read from all over the file.
        with path.open("rb", buffering=0) as file:
            yield _identified(path, file)
    except zipfile.BadZipFile as error:
        raise _damaged(path, str(error)) from error


def _damaged(path: Path, reason: str) -> ToolError:
    return ToolError(
        f"{path} is damaged or is not a wheel: {reason.rstrip('.')}. Delete it and get "
        "it again; if it lies in the cache, the next build does that."
    )


def _identified(path: Path, file: BinaryIO) -> _Wheel:
    """The wheel in an open file, if it is one that can be patched."""
    entries = archive.entries(file)
    infos = [
        name
        for name in entries
        if name.endswith(".dist-info/RECORD") and name.count("/") == 1
    ]
    if len(infos) != 1:
        raise ToolError(f"{path} is not a wheel: it has no single dist-info/RECORD.")
    info = infos[0].partition("/")[0]
    if f"{info}/METADATA" not in entries:
        raise ToolError(f"{path} is not a wheel: it has no {info}/METADATA.")
    record = _parsed_record(path, archive.content(file, entries[infos[0]]))
    wheel = _Wheel(path, file, entries, info, "", record)
    metadata = _verified(wheel, f"{info}/METADATA")
    name, version = _field(path, metadata, "Name"), _field(path, metadata, "Version")
    if name != "torch":
        raise ToolError(f"{path} is a wheel of {name}; a wheel of torch is needed.")
    release, _, label = version.partition("+")
    if LABEL in label.split("."):
        raise ToolError(
            f"{path} is patched already (version {version}). Give the wheel that "
            "PyTorch published."
        )
    if release != BASE_RELEASE:
        raise ToolError(
            f"{path} is torch {version}, but the series applies to {BASE_RELEASE}. Get "
            f"a wheel of torch {BASE_RELEASE}."
        )
    _check_listed(path, entries, record)
    return replace(wheel, version=version)


def _field(path: Path, metadata: bytes, field: str) -> str:
    """A field of the metadata that must be there once."""
    head = _head(metadata).decode("utf-8", "replace")
    values = re.findall(rf"^{field}: *(.*?)\r?$", head, re.MULTILINE)
    if len(values) != 1:
        raise _damaged(path, f"METADATA has {len(values)} lines '{field}: ...'")
    return str(values[0])


def _head(metadata: bytes) -> bytes:
    """The fields of the metadata, without the description below them."""
    return re.split(rb"\r?\n\r?\n", metadata, maxsplit=1)[0]


def _parsed_record(path: Path, content: bytes) -> dict[str, str]:
    """Path to hash and size, the latter as ``"sha256=...,size"``."""
    record: dict[str, str] = {}
    try:
        lines = content.decode("utf-8").splitlines()
        for line in lines:
            # Only a path can hold a quote, and then is quoted itself.
            name, digest, size = (
                next(csv.reader([line])) if '"' in line else line.split(",")
            )
            record[name] = f"{digest},{size}"
    except (ValueError, csv.Error) as error:
        raise _damaged(path, f"RECORD cannot be read ({error})") from error
    if len(record) != len(lines):
        raise _damaged(path, "RECORD lists a file twice")
    return record


def _check_listed(
    path: Path,
    entries: Mapping[str, archive.Entry],
    record: Mapping[str, str],
) -> None:
    """Each file must be in RECORD, and each line of RECORD must have its file."""
    held = {name for name in entries if not name.endswith("/")}
    for name in sorted(held ^ record.keys()):
        where = "is not listed in RECORD" if name in held else "is only in RECORD"
        raise _damaged(path, f"{name} {where}")


def _verified(wheel: _Wheel, name: str) -> bytes:
    """A file's content, checked against RECORD."""
    content = archive.content(wheel.file, wheel.entries[name])
    if wheel.record.get(name) != _hash_and_size(content):
        raise _damaged(wheel.path, f"{name} is not the file that RECORD describes")
    return content


def _hash_and_size(content: bytes) -> str:
    """What a file's line in RECORD says about its content."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest())
    return f"sha256={digest.decode().rstrip('=')},{len(content)}"


def _labeled(version: str, label: str) -> str:
    """A version with our label: ``2.13.0+cpu.named.8.g1a2b3c4d``."""
    return f"{version}{'.' if '+' in version else '+'}{label}"


def _file_name(wheel: _Wheel, new_version: str) -> str:
    """The name of the patched wheel; the tags are those of the official one."""
    # Some download tools leave the plus sign as it is in a URL.
    file_name = unquote(wheel.path.name)
    name, *tags = file_name.removesuffix(".whl").split("-")
    if (name, tags[:1]) != ("torch", [wheel.version]) or len(tags) not in (4, 5):
        raise ToolError(
            f"{wheel.path} is not named as the wheel of torch {wheel.version} that it "
            "is. Give it the name under which PyTorch published it, e.g. torch-"
            f"{wheel.version}-cp311-cp311-manylinux_2_28_x86_64.whl."
        )
    description = _verified(wheel, f"{wheel.info}/WHEEL").decode("utf-8", "replace")
    own = [tag.split("-") for tag in re.findall(r"(?m)^Tag: *(\S+)", description)]
    # Not the ABI: PyTorch has published wheels for macOS as "none" that say
    # "cp311" inside.
    for part, place in ((0, -3), (2, -1)):
        inside = {tag[part] for tag in own}
        if inside != set(tags[place].split(".")):
            raise ToolError(
                f"{wheel.path} is named as a wheel for {tags[place]}, but says inside "
                f"that it is for {' and '.join(sorted(inside))}. Give it the name under "
                "which PyTorch published it."
            )
    return "-".join(["torch", new_version, *tags[1:]]) + ".whl"


def _patched(wheel: _Wheel, patches: Sequence[series.Patch]) -> dict[str, bytes]:
    """The content of the patched files, by name.

    Files with the line endings of Windows keep them; patches are written for
    plain ones.
    """
    touched = [name for name in series.touched_files(patches) if _is_packaged(name)]
    for name in touched:
        if name not in wheel.entries:
            raise ToolError(
                f"The series changes {name}, which is not in {wheel.path}. Leave it "
                "out of the patches, or put a new file into the overlay."
            )
    originals = {name: _verified(wheel, name) for name in touched}
    windows = {name for name, content in originals.items() if _is_crlf(content)}
    with files.scratch() as scratch:
        tree = scratch / "tree"
        for name, content in originals.items():
            file = tree / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(_plain(content) if name in windows else content)
        if touched:
            parts = list(_packaged_parts(patches, scratch))
            series.apply(parts, tree, name=str(wheel.path))
        removed = [name for name in touched if not (tree / name).is_file()]
        if removed:
            raise ToolError(f"The series removes {removed[0]}; it may only change it.")
        results = {name: (tree / name).read_bytes() for name in touched}
    return {
        name: content.replace(b"\n", b"\r\n") if name in windows else content
        for name, content in results.items()
    }


def _is_packaged(name: str) -> bool:
    return name.startswith("torch/")


def _packaged_parts(
    patches: Sequence[series.Patch], folder: Path
) -> Iterator[series.Patch]:
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
            yield series.Patch(name=patch.name, path=part)


def _is_crlf(content: bytes) -> bool:
    """Whether every line ends as lines do on Windows."""
    return content.count(b"\r\n") == content.count(b"\n") > 0


def _plain(content: bytes) -> bytes:
    return content.replace(b"\r\n", b"\n")


def _laid_over(wheel: _Wheel, overlay: Mapping[str, Path]) -> dict[str, bytes]:
    """The content of the new files, by name."""
    contents: dict[str, bytes] = {}
    for name, path in sorted(overlay.items()):
        if name in wheel.entries:
            raise ToolError(
                f"The overlay's {path} is in {wheel.path} already, as {name}. Change "
                "PyTorch's files by a patch, and give new files other names."
            )
        contents[name] = path.read_bytes()
    return contents


def _versions(
    wheel: _Wheel, changed: Mapping[str, bytes], new_version: str, label: str
) -> dict[str, bytes]:
    """Metadata and ``torch/version.py`` with the label.

    The two versions may differ: wheels on the main index leave out the label
    that ``torch.__version__`` has.
    """
    metadata = f"{wheel.info}/METADATA"
    content = _verified(wheel, metadata)
    head = _head(content)
    new_head = head.replace(
        f"\nVersion: {wheel.version}".encode(), f"\nVersion: {new_version}".encode(), 1
    )
    if new_head == head:
        raise _damaged(wheel.path, f"{metadata} has an unusual line 'Version: ...'")
    if _VERSION_FILE not in wheel.entries:
        raise _damaged(wheel.path, f"it has no {_VERSION_FILE}")
    source = changed.get(_VERSION_FILE) or _verified(wheel, _VERSION_FILE)
    found = _VERSION_LINE.search(source)
    own = found[2].decode("utf-8", "replace") if found else "unknown"
    if own.partition("+")[0] != BASE_RELEASE:
        raise ToolError(
            f"{_VERSION_FILE} in {wheel.path} gives the version as {own}, not as "
            f"{BASE_RELEASE}. Give the wheel that PyTorch published."
        )
    line = rb"\g<1>" + _labeled(own, label).encode() + rb"\g<3>"
    return {
        metadata: new_head + content[len(head) :],
        _VERSION_FILE: _VERSION_LINE.sub(line, source, count=1),
    }


def _new_names(wheel: _Wheel, new_version: str) -> dict[str, str]:
    """Old to new name of each entry in a folder named after the version."""
    old = f"torch-{wheel.version}."
    if not wheel.info.startswith(old):
        raise _damaged(wheel.path, f"{wheel.info} does not fit version {wheel.version}")
    return {
        name: f"torch-{new_version}.{name.removeprefix(old)}"
        for name in wheel.entries
        if name.startswith((f"{old}dist-info/", f"{old}data/"))
    }


def _new_record(
    wheel: _Wheel, changed: Mapping[str, bytes], names: Mapping[str, str]
) -> bytes:
    """RECORD for the patched wheel: old lines, new hashes, new files."""
    own = f"{wheel.info}/RECORD"
    rows = {name: row for name, row in wheel.record.items() if name != own}
    rows |= {name: _hash_and_size(content) for name, content in changed.items()}
    rows[own] = ","
    lines = [f"{_quoted(names.get(name, name))},{row}\n" for name, row in rows.items()]
    return "".join(lines).encode()


def _quoted(name: str) -> str:
    """A path as RECORD, a file of comma-separated values, spells it."""
    if "," in name or '"' in name:
        return '"' + name.replace('"', '""') + '"'
    return name


def _write(
    wheel: _Wheel,
    changed: Mapping[str, bytes],
    names: Mapping[str, str],
    target: Path,
) -> None:
    """Write the patched wheel; the dist-info folder comes last, as it should."""
    entries = wheel.entries
    kept = [e for name, e in entries.items() if not (name in changed or name in names)]
    renamed = [name for name in names if name not in changed]
    new = [name for name in changed if name not in names]
    described = [name for name in changed if name in names]
    total = wheel.path.stat().st_size + sum(map(len, changed.values()))
    with (
        _replaced(target, total) as file,
        progress.bar(f"Writing {target.name}", total) as advance,
    ):
        writer = archive.Writer(wheel.file, file, advance)
        writer.keep(kept)
        for name in new:
            like = entries.get(name, entries[_VERSION_FILE])
            writer.add(name, changed[name], like)
        for name in renamed:
            writer.rename(entries[name], names[name])
        for name in described:
            writer.add(names[name], changed[name], entries[name])
        writer.finish()


@contextmanager
def _replaced(target: Path, needed: int) -> Iterator[BinaryIO]:
    """A file that takes the place of ``target`` once it is complete."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(target.parent).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with files.scratch(target.parent) as folder:
            partial = folder / target.name
            with partial.open("xb") as file:
                yield file
            os.replace(partial, target)
    except OSError as error:
        advice = "Choose another folder, or change its permissions."
        if error.errno in NO_SPACE:
            advice = f"It takes {needed // 2**20 + 1} MiB; free some space."
        raise ToolError(
            f"{target} cannot be written: {error.strerror}. {advice}"
        ) from error
