"""Writing files: whole or not at all, and to the last byte."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO


def write_atomically(file: Path, content: Iterable[bytes]) -> None:
    """Writes a file under another name in its folder and renames it.

    Raises:
        OSError: The file cannot be written; nothing of it is left.
    """
    unfinished = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    try:
        with unfinished.open("wb") as written:
            written.writelines(content)
        os.replace(unfinished, file)
    finally:
        unfinished.unlink(missing_ok=True)


def write_all(file: BinaryIO, content: bytes) -> None:
    """Writes all of `content` to an unbuffered file, whose own `write` may stop early.

    Raises:
        OSError: It cannot be written whole.
    """
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]
