"""Files that are never seen half-written."""

from __future__ import annotations

import os
import uuid
from pathlib import Path


def write_atomically(file: Path, content: bytes) -> None:
    """Writes a file under another name in its folder and renames it.

    Raises:
        OSError: The file cannot be written; nothing of it is left.
    """
    unfinished = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    try:
        unfinished.write_bytes(content)
        os.replace(unfinished, file)
    finally:
        unfinished.unlink(missing_ok=True)
