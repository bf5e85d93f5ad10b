"""Strict check of the zip archive of torch.save, in which every byte must have its place.

Readers of zip archives look at different places. torch and Python take sizes and names from the directory at the end,
and both ignore most of the header in front of a record. So after one flipped bit, torch may read other bytes than the
bytes whose checksum Python compares. Here the directory, the headers and the ends of the records must agree, and the
records must follow each other without a gap. Then every reader finds the same bytes.
"""

import io
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")

_STORED, _DEFLATED = 0, 8
_SIZES_BEHIND = 0x8  # flag: checksum and sizes follow the record
_FLAGS = _SIZES_BEHIND | 0x6 | 0x800  # flags that do not change how torch reads: levels of deflate, UTF-8
_FOLDER = 0x10  # external attribute, for which torch returns uninitialized memory
_MAX16, _MAX32 = 0xFFFF, 0xFFFFFFFF  # means that the number is in a field of 64 bits
_CHUNK = 1 << 20  # bytes


class DamagedRecordsError(ValueError):
    """Error for an archive whose parts do not agree. The message names the part."""


class Archive(NamedTuple):
    """Properties of an archive that passed the check.

    Attributes:
        is_mappable: Whether no record is compressed, so that tensors can be mapped into memory.
        has_checksums: False after ``torch.serialization.set_crc32_options(False)``.
    """

    is_mappable: bool
    has_checksums: bool


@dataclass(frozen=True)
class _Record:
    """Entry of the directory.

    Attributes:
        name: Name of the record, in bytes.
        common: Version, flags, method, time and date, which the header in front of the record repeats.
        crc: Checksum of the content.
        compressed: Number of bytes in the file.
        size: Number of bytes of the content.
        offset: Place of the record's header in the file.
    """

    name: bytes
    common: tuple[int, ...]
    crc: int
    compressed: int
    size: int
    offset: int

    @property
    def title(self) -> str:
        """Return the name for messages."""
        return ascii(self.name.decode(errors="surrogateescape"))[1:-1]


def is_archive(path: Path) -> bool:
    """Check whether torch reads a file as an archive. Its older formats have no checksums."""
    with open(path, "rb") as file:
        return file.read(4) == b"PK\x03\x04"


def check_records(path: Path, tensors: bool = True) -> Archive:
    """Compare everything that an archive states about its records with the records.

    Args:
        path (Path): File of torch.save for which :func:`is_archive` holds.
        tensors (bool): Whether to read the tensors for their checksums. All other records are always read. Defaults to
            True.

    Returns:
        Archive: The properties of the archive.

    Raises:
        DamagedRecordsError: If anything differs.
        OSError: If the file cannot be read.
    """
    with open(path, "rb") as file:
        directory, records = _directory(file)
        records.sort(key=lambda record: record.offset)
        if len({record.name.lower() for record in records}) < len(records):
            raise DamagedRecordsError("two of its records have the same name")
        if records[0].offset != 0:
            raise DamagedRecordsError("it does not begin with a record")
        has_checksums = any(record.crc for record in records)
        ends = [record.offset for record in records[1:]] + [directory]
        for record, end in zip(records, ends, strict=True):
            begin = _check_header(file, record, end)
            if has_checksums and (tensors or b"/data/" not in record.name):
                _check_content(file, record, begin)
    return Archive(all(record.common[2] == _STORED for record in records), has_checksums)


def _directory(file: BinaryIO) -> tuple[int, list[_Record]]:
    """Return the place of the directory and its entries."""
    end = os.fstat(file.fileno()).st_size - _END.size
    signature, disk, first_disk, here, number, length, begin, comment = _unpack(file, _END, end)
    if (signature, disk, first_disk, comment) != (b"PK\x05\x06", 0, 0, 0) or here != number:
        raise DamagedRecordsError("its end is missing")
    locator = _unpack(file, _LOCATOR, end - _LOCATOR.size)
    if locator[0] == b"PK\x06\x07":
        end -= _LOCATOR.size + _END64.size
        signature, rest, _, _, disk, first_disk, *wide = _unpack(file, _END64, end)
        if (signature, rest, disk, first_disk) != (b"PK\x06\x06", _END64.size - 12, 0, 0) or locator[1:] != (0, end, 1):
            raise DamagedRecordsError("its end is damaged")
        for few, many, most in zip((here, number, length, begin), wide, (_MAX16, _MAX16, _MAX32, _MAX32), strict=True):
            if few not in (many, most):
                raise DamagedRecordsError("its end is damaged")
        here, number, length, begin = wide
    if begin + length != end or here != number:
        raise DamagedRecordsError("its directory does not end where it should")
    file.seek(begin)
    records = list(_entries(io.BytesIO(file.read(length)), length))
    if len(records) != number or not records:
        raise DamagedRecordsError(f"its directory has {len(records)} records, but its end says {number}")
    return begin, records


def _entries(file: BinaryIO, length: int) -> Iterator[_Record]:
    """Read the entries of the directory."""
    place = 0
    while place < length:
        entry = _unpack(file, _CENTRAL, place)
        signature, _, version, flags, method, time, date, crc, compressed, size = entry[:10]
        name_length, extra_length, comment, disk, _, attributes, offset = entry[10:]
        name, extra = file.read(name_length), file.read(extra_length)
        place += _CENTRAL.size + name_length + extra_length
        if signature != b"PK\x01\x02" or place > length or disk or comment:
            raise DamagedRecordsError("an entry of its directory is damaged")
        size, compressed, offset = _wide(extra, (size, compressed, offset))
        record = _Record(name, (version, flags, method, time, date), crc, compressed, size, offset)
        if flags & ~_FLAGS or method not in (_STORED, _DEFLATED):
            raise DamagedRecordsError(
                f"{record.title} is encrypted, or compressed by a method that torch does not know"
            )
        if attributes & _FOLDER or name.endswith((b"/", b"\\")):
            raise DamagedRecordsError(f"{record.title} is marked as a folder")
        if method == _STORED and compressed != size:
            raise DamagedRecordsError(f"{record.title} has two sizes")
        yield record


def _wide(extra: bytes, numbers: tuple[int, ...]) -> Iterator[int]:
    """Return 32-bit numbers; read numbers that do not fit from the 64-bit field among the extra fields."""
    fields = {}
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<2H", extra)
        if kind in fields or len(extra) < 4 + length:
            raise DamagedRecordsError("an extra field of its directory is damaged")
        fields[kind], extra = extra[4 : 4 + length], extra[4 + length :]
    content, count = fields.get(1, b""), numbers.count(_MAX32)
    if extra or len(content) != 8 * count:
        raise DamagedRecordsError("an extra field of its directory is damaged")
    values = iter(struct.unpack(f"<{count}Q", content))
    return (next(values) if number == _MAX32 else number for number in numbers)


def _check_header(file: BinaryIO, record: _Record, until: int) -> int:
    """Compare a record's header with its entry, and its end with the begin of the next one; return its begin."""
    signature, *common, crc, compressed, size, name_length, extra_length = _unpack(file, _LOCAL, record.offset)
    sizes = (record.crc, record.compressed, record.size)
    behind = record.common[1] & _SIZES_BEHIND
    if (
        signature != b"PK\x03\x04"
        or file.read(name_length) != record.name
        or tuple(common) != record.common
        or any(
            here not in (there, 0 if behind else _MAX32)
            for here, there in zip((crc, compressed, size), sizes, strict=True)
        )
    ):
        raise DamagedRecordsError(f"the header of {record.title} differs from the directory")
    begin = record.offset + _LOCAL.size + name_length + extra_length
    end = begin + record.compressed
    forms = ("<LQQ",) if max(sizes) > _MAX32 else ("<LQQ", "<LLL")  # torch and other writers differ here
    ends = [b"PK\x07\x08" + struct.pack(form, *sizes) for form in forms] if behind else [b""]
    if not any(end + len(content) == until for content in ends):
        raise DamagedRecordsError(f"{record.title} does not end where the next record begins")
    file.seek(end)
    if file.read(until - end) not in ends:
        raise DamagedRecordsError(f"{record.title} does not end where the next record begins")
    return begin


def _check_content(file: BinaryIO, record: _Record, begin: int) -> None:
    """Compare the content of a record with its checksum."""
    file.seek(begin)
    deflated = zlib.decompressobj(-zlib.MAX_WBITS) if record.common[2] == _DEFLATED else None
    crc = size = 0
    rest = record.compressed
    while rest and (chunk := file.read(min(rest, _CHUNK))):
        rest -= len(chunk)
        try:
            content = deflated.decompress(chunk) if deflated else chunk
        except zlib.error as error:
            raise DamagedRecordsError(f"{record.title} is damaged ({error})") from error
        crc, size = zlib.crc32(content, crc), size + len(content)
    if (crc, size) != (record.crc, record.size):
        raise DamagedRecordsError(f"{record.title} is damaged")


def _unpack(file: BinaryIO, form: struct.Struct, place: int) -> tuple:
    """Read a header at a place of the file."""
    file.seek(max(place, 0))
    content = file.read(form.size)
    if place < 0 or len(content) < form.size:
        raise DamagedRecordsError("it is cut off")
    return form.unpack(content)
