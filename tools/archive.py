"""Zip archives, read and written without recompressing their entries.

What goes in is an open archive; what comes out are its entries as spans of
bytes, and a :class:`Writer` that copies those spans in runs as long as possible,
renames entries, adds new ones, and ends with a central directory of its own.

Record layouts and field sizes are those of PKWARE's APPNOTE, version 6.3.10
(sections 4.3.7, 4.3.12 and 4.3.14 to 4.3.16; zip64 fields: 4.5.3).
"""

import errno
import os
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, NamedTuple
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile


_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s4B4H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64 = struct.Struct("<4sLQL")

#: Where the offset of the local header lies in a central record.
_OFFSET = slice(42, 46)

_UTF8 = 0x800
_ENCRYPTED = 0x1
_ZIP64_EXTRA = 1
_VERSION = 20
_ZIP64_VERSION = 45

#: In a field of 4 or 2 bytes: its zip64 form has the value.
_WIDE = 0xFFFFFFFF
_MANY = 0xFFFF

#: From these values on, the zip64 forms are written.
_LIMIT = _WIDE
_COUNT_LIMIT = _MANY

_LONGEST_COMMENT = 0xFFFF

_CHUNK = 16 * 1024 * 1024
_BUFFER = 1024 * 1024

#: Answers of ``copy_file_range`` that mean "not between these two files".
_NO_KERNEL_COPY = {
    errno.EBADF,
    errno.EINVAL,
    errno.ENOSYS,
    errno.EOPNOTSUPP,
    errno.EPERM,
    errno.EXDEV,
}


class Entry(NamedTuple):
    """One entry of an archive, and where its bytes lie.

    Attributes:
        name (str): its name.
        record (bytes): its record in the central directory, as it is there.
        file_size (int): the size of its content.
        compress_size (int): the size of its compressed bytes.
        start (int): offset of its local header.
        data (int): offset of its compressed bytes.
        end (int): offset of whatever follows: compressed bytes and, where there
            is one, the data descriptor lie before it.
    """

    name: str
    record: bytes
    file_size: int
    compress_size: int
    start: int
    data: int
    end: int


def entries(file: BinaryIO) -> dict[str, Entry]:
    """The entries of an archive, checked to lie inside it without overlap.

    Args:
        file (BinaryIO): the archive, open for reading.

    Returns:
        dict[str, Entry]: name to entry, in the order of the bytes.

    Raises:
        BadZipFile: if the archive is truncated or its directory and its local
            headers contradict each other. Contents are not looked at.
    """
    start, size, count = _directory_place(file)
    file.seek(start)
    directory = file.read(size)
    listed = []
    position = 0
    for _ in range(count):
        try:
            entry = _listed(directory, position)
        except (struct.error, UnicodeDecodeError) as error:
            raise BadZipFile("its central directory is broken") from error
        listed.append(entry)
        position += len(entry.record)
    if position != size:
        raise BadZipFile("its central directory has another size than announced")
    listed.sort(key=lambda entry: entry.start)
    found: dict[str, Entry] = {}
    ends = [entry.start for entry in listed[1:]] + [start]
    for entry, end in zip(listed, ends):
        data = _data_offset(file, entry)
        if data + entry.compress_size > end:
            raise BadZipFile(f"{entry.name} overlaps what follows it")
        if entry.name in found:
            raise BadZipFile(f"{entry.name} is there twice")
        found[entry.name] = Entry(*entry[:5], data, end)
    return found


def _directory_place(file: BinaryIO) -> tuple[int, int, int]:
    """Offset, size and number of records of the central directory."""
    file_size = file.seek(0, os.SEEK_END)
    tail_size = min(file_size, _LOCATOR64.size + _END.size + _LONGEST_COMMENT)
    file.seek(file_size - tail_size)
    tail = file.read(tail_size)
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) - at < _END.size:
        raise BadZipFile("it has no end record of a zip archive, or is truncated")
    *_, count, size, start, comment = _END.unpack_from(tail, at)
    end = file_size - tail_size + at
    if end + _END.size + comment != file_size:
        raise BadZipFile("its end record is not at its end")
    if tail[max(0, at - _LOCATOR64.size) : at][:4] == b"PK\6\7":
        end = _LOCATOR64.unpack_from(tail, at - _LOCATOR64.size)[2]
        file.seek(min(end, file_size))
        record = file.read(_END64.size)
        if len(record) < _END64.size or record[:4] != b"PK\6\6":
            raise BadZipFile("it has no zip64 end record where it says")
        *_, count, size, start = _END64.unpack(record)
    if start + size != end:
        raise BadZipFile("its central directory is not where it says")
    return start, size, count


def _listed(directory: bytes, position: int) -> Entry:
    """The entry whose central record starts at a position; spans still open."""
    fields = _CENTRAL.unpack_from(directory, position)
    if fields[0] != b"PK\1\2":
        raise BadZipFile("its central directory is broken")
    flags, compress_size, file_size, start = (
        fields[5],
        fields[10],
        fields[11],
        fields[18],
    )
    name_length, extra_length, comment_length = fields[12:15]
    name_end = position + _CENTRAL.size + name_length
    extra_end = name_end + extra_length
    raw_name = directory[position + _CENTRAL.size : name_end]
    if raw_name.isascii():
        name = raw_name.decode()
    else:
        name = raw_name.decode("utf-8" if flags & _UTF8 else "cp437")
    if _WIDE in (file_size, compress_size, start):
        wide = _zip64_fields(directory[name_end:extra_end])
        file_size, compress_size, start = (
            next(wide) if field == _WIDE else field
            for field in (file_size, compress_size, start)
        )
    record = directory[position : extra_end + comment_length]
    return Entry(name, record, file_size, compress_size, start, 0, 0)


def _zip64_fields(extra: bytes) -> Iterator[int]:
    """The wide forms of the fields that are too large for their place."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<2H", extra)
        if kind == _ZIP64_EXTRA:
            yield from struct.unpack_from(f"<{length // 8}Q", extra, 4)
        extra = extra[4 + length :]
    # Whoever asks for more than there is has a broken record.
    raise struct.error("a zip64 field is missing")


def _data_offset(file: BinaryIO, entry: Entry) -> int:
    """Where the compressed bytes start, after a check of the local header."""
    name = _raw_name(entry)
    file.seek(entry.start)
    header = file.read(_LOCAL.size + len(name))
    if header[:4] != b"PK\3\4" or header[_LOCAL.size :] != name:
        raise BadZipFile(f"{entry.name} is not where the directory says")
    name_length, extra_length = _LOCAL.unpack_from(header)[-2:]
    if name_length != len(name):
        raise BadZipFile(f"{entry.name} has another name in its header")
    return entry.start + len(header) + int(extra_length)


def _raw_name(entry: Entry) -> bytes:
    """The name as the archive spells it."""
    length = int.from_bytes(entry.record[28:30], "little")
    return entry.record[_CENTRAL.size : _CENTRAL.size + length]


def content(file: BinaryIO, entry: Entry) -> bytes:
    """An entry's content, checked against the central directory.

    Args:
        file (BinaryIO): the archive, open for reading.
        entry (Entry): one of its entries.

    Returns:
        bytes: the uncompressed content.

    Raises:
        BadZipFile: if it cannot be read or has another size or CRC-32.
    """
    fields = _CENTRAL.unpack_from(entry.record)
    flags, method, crc = fields[5], fields[6], fields[9]
    if flags & _ENCRYPTED:
        raise BadZipFile(f"{entry.name} is encrypted")
    file.seek(entry.data)
    raw = file.read(entry.compress_size)
    if method == ZIP_DEFLATED:
        try:
            # One byte more than announced, so that a longer content shows.
            inflate = zlib.decompressobj(-zlib.MAX_WBITS)
            raw = inflate.decompress(raw, entry.file_size + 1)
        except zlib.error as error:
            raise BadZipFile(f"{entry.name} cannot be inflated ({error})") from error
    elif method != ZIP_STORED:
        raise BadZipFile(f"{entry.name} uses an unknown compression")
    if len(raw) != entry.file_size or zlib.crc32(raw) != crc:
        raise BadZipFile(f"{entry.name} has another size or CRC-32 than announced")
    return raw


class Writer:
    """An archive in the making, most of it copied from another one.

    Args:
        source (BinaryIO): the archive to copy from, open for reading.
        target (BinaryIO): an empty file, open for writing.
        advance (Callable[[int], None]): called with the number of bytes copied,
            now and then.
    """

    def __init__(
        self, source: BinaryIO, target: BinaryIO, advance: Callable[[int], None]
    ) -> None:
        self._source = source
        self._target = target
        self._advance = advance
        self._directory: list[bytes] = []

    def keep(self, entries: Iterable[Entry]) -> None:
        """Copy entries as they are, neighbors in one go.

        Args:
            entries (Iterable[Entry]): entries of the source, in the order of
                their bytes.
        """
        position = self._target.tell()
        run_start = run_end = 0
        for entry in entries:
            if entry.start != run_end:
                self._copy(run_start, run_end)
                run_start = entry.start
            run_end = entry.end
            self._directory.append(_moved(entry, position))
            position += entry.end - entry.start
        self._copy(run_start, run_end)

    def rename(self, entry: Entry, name: str) -> None:
        """Copy an entry under another name.

        Args:
            entry (Entry): an entry of the source.
            name (str): its name from now on.
        """
        position = self._target.tell()
        self._source.seek(entry.start)
        header = self._source.read(entry.data - entry.start)
        *fields, name_length, extra_length = _LOCAL.unpack_from(header)
        new_name = name.encode()
        new_header = _LOCAL.pack(*fields, len(new_name), extra_length)
        extra = header[_LOCAL.size + name_length :]
        self._target.write(new_header + new_name + extra)
        self._copy(entry.data, entry.end)
        self._directory.append(_moved(entry, position, new_name))

    def add(self, name: str, content: bytes, like: Entry) -> None:
        """Add an entry with a content of its own.

        The content is stored, not deflated: compressors differ from one zlib to
        the next, and the same input must give the same bytes everywhere.

        Args:
            name (str): the name of the entry.
            content (bytes): its content, less than 4 GiB.
            like (Entry): gives the timestamp and the permissions.
        """
        position = self._target.tell()
        fields = _CENTRAL.unpack_from(like.record)
        system, time, date, attributes = fields[2], fields[7], fields[8], fields[17]
        raw_name = name.encode()
        flags = 0 if raw_name.isascii() else _UTF8
        crc, size = zlib.crc32(content), len(content)
        common = (flags, ZIP_STORED, time, date, crc, size, size, len(raw_name), 0)
        header = _LOCAL.pack(b"PK\3\4", _VERSION, *common)
        self._target.write(header + raw_name + content)
        self._advance(size)
        versions = (_VERSION, system, _VERSION, 0)
        record = _CENTRAL.pack(b"PK\1\2", *versions, *common, 0, 0, 0, attributes, 0)
        entry = Entry(name, record + raw_name, size, size, 0, 0, 0)
        self._directory.append(_moved(entry, position))

    def finish(self) -> None:
        """Write the central directory. Nothing may be added afterwards."""
        start = self._target.tell()
        directory = b"".join(self._directory)
        size, count = len(directory), len(self._directory)
        self._target.write(directory)
        if max(start, size) >= _LIMIT or count >= _COUNT_LIMIT:
            versions = (_ZIP64_VERSION, _ZIP64_VERSION)
            rest = _END64.size - 12
            place = (count, count, size, start)
            record = _END64.pack(b"PK\6\6", rest, *versions, 0, 0, *place)
            locator = _LOCATOR64.pack(b"PK\6\7", 0, start + size, 1)
            self._target.write(record + locator)
            size, start, count = _WIDE, _WIDE, _MANY
        self._target.write(_END.pack(b"PK\5\6", 0, 0, count, count, size, start, 0))

    def _copy(self, start: int, end: int) -> None:
        """Append a span of the source, inside the kernel where that works."""
        if start == end:
            return
        self._target.flush()
        while start < end:
            copied = _kernel_copy(self._source, self._target, start, end)
            if not copied:
                break
            self._advance(copied)
            start += copied
        # The kernel moved on without the knowledge of the file object.
        self._target.seek(0, os.SEEK_END)
        self._source.seek(start)
        while start < end:
            buffer = self._source.read(min(_BUFFER, end - start))
            if not buffer:
                raise BadZipFile("it became shorter while it was read")
            self._target.write(buffer)
            self._advance(len(buffer))
            start += len(buffer)


def _kernel_copy(source: BinaryIO, target: BinaryIO, start: int, end: int) -> int:
    """Bytes copied by the kernel to the target's end; 0 if it cannot."""
    if not hasattr(os, "copy_file_range"):
        return 0
    try:
        size = min(_CHUNK, end - start)
        return os.copy_file_range(source.fileno(), target.fileno(), size, start)
    except OSError as error:
        if error.errno in _NO_KERNEL_COPY:
            return 0
        raise


def _moved(entry: Entry, position: int, new_name: bytes | None = None) -> bytes:
    """The central record of an entry that now lies at another position."""
    record = entry.record
    sizes = (entry.file_size, entry.compress_size)
    if new_name is None and max(*sizes, entry.start, position) < _LIMIT:
        return (
            record[: _OFFSET.start]
            + struct.pack("<L", position)
            + record[_OFFSET.stop :]
        )
    fields = list(_CENTRAL.unpack_from(record))
    name_end = _CENTRAL.size + fields[12]
    name = record[_CENTRAL.size : name_end] if new_name is None else new_name
    extra = _without_zip64(record[name_end : name_end + fields[13]])
    comment = record[name_end + fields[13] :]
    wide = [field for field in (*sizes, position) if field >= _LIMIT]
    if wide:
        layout = f"<2H{len(wide)}Q"
        extra = struct.pack(layout, _ZIP64_EXTRA, 8 * len(wide), *wide) + extra
        fields[3] = max(fields[3], _ZIP64_VERSION)
    narrow = (_WIDE if field >= _LIMIT else field for field in (*sizes, position))
    fields[11], fields[10], fields[18] = narrow
    fields[12], fields[13] = len(name), len(extra)
    return _CENTRAL.pack(*fields) + name + extra + comment


def _without_zip64(extra: bytes) -> bytes:
    """An extra field without the zip64 sizes, which are written anew."""
    kept = b""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<2H", extra)
        if kind != _ZIP64_EXTRA:
            kept += extra[: 4 + length]
        extra = extra[4 + length :]
    return kept + extra
