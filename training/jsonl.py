"""What stands in files of JSON: lines of it, or one list; a line that is none costs itself and no other."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from atomthink_plugin.api import AtomThinkError


@dataclass(frozen=True, slots=True)
class NoJson:
    """A line that is no JSON: its text as far as it can be read, and what is wrong with it."""

    text: str
    fault: str


def entries(file: Path) -> Iterator[tuple[str, Any]]:
    """Yields what stands in a file of JSON lines, or of one JSON list, with where; a line that is none as NoJson.

    Raises:
        AtomThinkError: The file cannot be read.
    """
    try:
        with file.open("rb") as lines:
            whole = _whole(file, lines)
            if whole is not None:
                yield from ((f"{file.name}:{number}", record) for number, record in enumerate(whole, start=1))
                return
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield f"{file.name}:{number}", _parsed(line)
    except OSError as error:
        raise AtomThinkError(f"{file} cannot be read: {error.strerror}") from None


def plain(value: Any) -> Any:
    """Returns a record as JSON can have it: of bytes their number, of what else it has no word for the text."""
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    return value if isinstance(value, str | int | float | None) else str(value)


def _whole(file: Path, lines: BinaryIO) -> list[Any] | None:
    """Returns the records of a file that is a single JSON value, None if it has one in each line."""
    first = next((line for line in lines if line.strip()), b"")
    lines.seek(0)
    listed = first.lstrip().startswith(b"[")
    if not listed and file.suffix != ".json":
        return None
    try:
        found = json.loads(lines.read())
    except (ValueError, RecursionError) as error:
        if listed and isinstance(_parsed(first), NoJson):
            raise AtomThinkError(f"{file} is no JSON: {error}") from None
        lines.seek(0)
        return None
    return found if isinstance(found, list) else [found]


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        return NoJson(line.decode("utf-8", "replace").strip(), f"no JSON: {error}")
