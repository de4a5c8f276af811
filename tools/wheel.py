"""A patched wheel from an official one.

What goes in is the wheel that PyTorch published for a supported release and any
platform; what comes out is the same wheel with the series and the overlay laid
over it, under a version of its own. Most of its bytes are copied as they are.
"""

import errno
import os
import re
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote

from tools import archive, files, layout, patched, progress, record, releases
from tools.errors import NO_SPACE, ToolError, notice


@dataclass(frozen=True)
class _Wheel:
    """An official wheel, open for reading.

    Attributes:
        path (Path): where it lies.
        file (BinaryIO): the open file.
        entries (dict[str, archive.Entry]): what is in it, in order.
        info (str): the name of the dist-info folder.
        version (str): the version in the metadata.
        record (dict[str, str]): as :func:`tools.record.rows` gives it.
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
    patches_root: Path = layout.PATCHES,
    overlay_root: Path = layout.OVERLAY,
) -> Path:
    """Write the patched form of an official wheel.

    The same wheel, series and overlay give the same bytes, on any machine.

    Args:
        base (Path): a wheel of a supported release, as it was published.
        out_dir (Path): the folder to write to; it is made if need be.
        patches_root (Path): the folder of the patches.
        overlay_root (Path): the folder of the overlay.

    Returns:
        Path: the patched wheel; one of the same name is replaced.

    Raises:
        ToolError: if ``base`` is damaged, is no wheel of a supported release or
            is patched already, a patch does not apply, or the result cannot be
            written. ``out_dir`` then holds nothing new.
    """
    with _opened(base, patches_root) as wheel:
        laid = patched.Series(
            wheel.version.partition("+")[0], patches_root, overlay_root
        )
        new_version = patched.labeled(wheel.version, laid.label)
        target = out_dir / _file_name(wheel, new_version)

        def read(name: str) -> bytes | None:
            return _verified(wheel, name) if name in wheel.entries else None

        changed = patched.contents(read, laid, str(base))
        changed[f"{wheel.info}/METADATA"] = _new_metadata(wheel, new_version)
        names = _new_names(wheel, new_version)
        changed[f"{wheel.info}/RECORD"] = _new_record(wheel, changed, names)
        _write(wheel, changed, names, target)
    notice(laid.limits)
    return target


@contextmanager
def _opened(path: Path, patches_root: Path) -> Iterator[_Wheel]:
    """Open a wheel, and turn what is wrong with it into one clear sentence."""
    if not path.is_file():
        # To open a pipe would wait for its other end.
        what = "is not a file" if path.exists() else "does not exist"
        raise ToolError(f"{path.absolute()} {what}. Give an official wheel of torch.")
    try:
        # Unbuffered: headers are read from all over the file.
        with path.open("rb", buffering=0) as file:
            yield _identified(path, file, patches_root)
    except zipfile.BadZipFile as error:
        raise _damaged(path, str(error)) from error


def _damaged(path: Path, reason: str) -> ToolError:
    return ToolError(
        f"{path} is damaged or is not a wheel: {reason.rstrip('.')}. Delete it and get "
        "it again; if it lies in the cache, the next build does that."
    )


def _identified(path: Path, file: BinaryIO, patches_root: Path) -> _Wheel:
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
    try:
        rows = record.rows(archive.content(file, entries[infos[0]]))
    except ValueError as error:
        raise _damaged(path, f"RECORD cannot be read ({error})") from error
    wheel = _Wheel(path, file, entries, info, "", rows)
    metadata = _verified(wheel, f"{info}/METADATA")
    name, version = _field(path, metadata, "Name"), _field(path, metadata, "Version")
    if name != "torch":
        raise ToolError(f"{path} is a wheel of {name}; a wheel of torch is needed.")
    if patched.revision_of(version):
        raise ToolError(
            f"{path} is patched already (version {version}). Give the wheel that "
            "PyTorch published."
        )
    try:
        releases.find(version, patches_root)
    except ToolError as error:
        raise ToolError(f"{path} cannot be patched: {error}") from error
    _check_listed(path, entries, rows)
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


def _check_listed(
    path: Path,
    entries: Mapping[str, archive.Entry],
    rows: Mapping[str, str],
) -> None:
    """Each file must be in RECORD, and each line of RECORD must have its file."""
    held = {name for name in entries if not name.endswith("/")}
    for name in sorted(held ^ rows.keys()):
        where = "is not listed in RECORD" if name in held else "is only in RECORD"
        raise _damaged(path, f"{name} {where}")


def _verified(wheel: _Wheel, name: str) -> bytes:
    """A file's content, checked against RECORD."""
    content = archive.content(wheel.file, wheel.entries[name])
    if wheel.record.get(name) != record.row(content):
        raise _damaged(wheel.path, f"{name} is not the file that RECORD describes")
    return content


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


def _new_metadata(wheel: _Wheel, new_version: str) -> bytes:
    """The metadata under the new version.

    ``torch.__version__`` may be another one: wheels on the main index leave out
    the variant that it has.
    """
    content = _verified(wheel, f"{wheel.info}/METADATA")
    head = _head(content)
    new_head = head.replace(
        f"\nVersion: {wheel.version}".encode(), f"\nVersion: {new_version}".encode(), 1
    )
    if new_head == head:
        raise _damaged(wheel.path, "METADATA has an unusual line 'Version: ...'")
    return new_head + content[len(head) :]


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
    rows |= {name: record.row(content) for name, content in changed.items()}
    rows[own] = ","
    return record.text({names.get(name, name): row for name, row in rows.items()})


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
            like = entries.get(name, entries[patched.VERSION_FILE])
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
