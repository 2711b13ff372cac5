"""Members of zip files, also of those that are compressed with Zstandard, which `zipfile` reads from Python 3.14 on."""

from __future__ import annotations

import struct
import zipfile
import zlib
from typing import Final

import zstandard

_ZSTANDARD: Final = 93
"""The number of this compression in the zip format."""

_HEADER: Final = struct.Struct("<26xHH")
"""The part of a local header before the name. It ends with the lengths of the name and of the extra field."""


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """Returns the content of a member.

    Raises:
        BadZipFile: It is damaged.
        NotImplementedError: It is compressed in another way.
    """
    if member.compress_type != _ZSTANDARD:
        return archive.read(member)
    packed = _stored_bytes(archive, member)
    try:
        content = zstandard.ZstdDecompressor().decompressobj().decompress(packed)
    except zstandard.ZstdError as error:
        raise zipfile.BadZipFile(f"{member.filename} is damaged: {error}") from None
    if zlib.crc32(content) != member.CRC:
        raise zipfile.BadZipFile(f"{member.filename} is damaged: its checksum is wrong")
    return content


def _stored_bytes(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    file = archive.fp
    assert file is not None, "the archive is closed"
    file.seek(member.header_offset)
    lengths = _HEADER.unpack(file.read(_HEADER.size))
    file.seek(sum(lengths), 1)
    return file.read(member.compress_size)
