"""Writing files completely or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO


def write_atomically(file: Path, content: Iterable[bytes]) -> None:
    """Writes a temporary file in the same folder and renames it.

    Raises:
        OSError: The file cannot be written. The temporary file is removed.
    """
    temporary = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("wb") as out:
            out.writelines(content)
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


def write_all(file: BinaryIO, content: bytes) -> None:
    """Writes all of `content` to an unbuffered file, whose own `write` may stop early.

    Raises:
        OSError: Not all of it can be written.
    """
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]
