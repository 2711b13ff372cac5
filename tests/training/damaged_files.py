"""Damaged input: an image that is too large, a lone surrogate, a line in another encoding."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

HALF = '"\\ud83d"'
"""A lone surrogate, which JSON can escape and UTF-8 cannot encode."""

LATIN = b'{"id": "latin", "question": "Caf\xe9?", "answer": "1"}\n'
"""A line in another encoding than UTF-8."""


def oversized() -> bytes:
    """A PNG of a few bytes that claims to have 900 million pixels."""
    parts = ((b"IHDR", struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(b"\0")))
    chunks = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in (*parts, (b"IEND", b""))
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def append(file: Path, *lines: bytes) -> None:
    """Appends lines to a file as they are."""
    with file.open("ab") as out:
        out.writelines(lines)
