"""The files of a journal: one JSON record a line, with a checksum, written and read in one way by all commands."""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path as FilePath
from typing import Any, Final

from atomthink_plugin.api import AtomThinkError

log = logging.getLogger(__name__)

_CHECKSUM: Final = b',"checksum":"%08x"}'
_CHECKSUM_SIZE: Final = len(_CHECKSUM % 0)

_UNCHECKED: Final = {"key", "question", "text", "images", "status", "outcome", "failure"}
"""Fields of a record without a checksum: older versions wrote none. A damaged checksum is a field of another name."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a file.

    Attributes:
        number: Its number, from 1.
        start: The byte it starts at.
        content: What it holds, with its line break.
    """

    number: int
    start: int
    content: bytes

    def record(self) -> dict[str, Any]:
        """Returns its record.

        Raises:
            ValueError: The line is damaged.
        """
        return decode(self.content)


def dump(value: Any) -> str:
    """Returns a value as JSON: dataclasses by their fields, whatever else JSON has no type for as text."""
    return _ENCODER.encode(value)


def encode(record: Mapping[str, Any], errors: str = "replace") -> bytes:
    """Returns a record as one line that ends with its checksum.

    Args:
        record: The record.
        errors: What becomes of lone surrogates: "surrogatepass" keeps them, for files that no other tool reads.
    """
    body = dump(record)[:-1].encode("utf-8", errors)
    return body + _CHECKSUM % zlib.crc32(body) + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """Returns the record of a line.

    Raises:
        ValueError: The line is damaged.
    """
    body, checksum = line.rstrip()[:-_CHECKSUM_SIZE], line.rstrip()[-_CHECKSUM_SIZE:]
    try:
        record = json.loads(line)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(record, dict):
        raise ValueError("it is not a record")
    if checksum != _CHECKSUM % zlib.crc32(body) and record.keys() - _UNCHECKED:
        raise ValueError("its checksum is wrong")
    return record


def lines(file: FilePath) -> Iterator[Line]:
    """Yields all lines of a file that are not blank, damaged ones included.

    Raises:
        AtomThinkError: The file cannot be read.
    """
    start = 0
    try:
        with file.open("rb") as content:
            for number, line in enumerate(content, 1):
                if line.strip():
                    yield Line(number, start, line)
                start += len(line)
    except OSError as error:
        raise AtomThinkError(f"{file} cannot be read ({error.strerror}): make it readable or move it away") from None


def rank_files(folder: FilePath) -> list[FilePath]:
    """Returns a journal's files, one per process; warns of what only has the name of one."""
    named = sorted(folder.glob("rank*.jsonl"))
    for file in named:
        if not file.is_file():
            log.warning("%s is %s: it is ignored", file, "a broken link" if file.is_symlink() else "not a file")
    return [file for file in named if file.is_file()]


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        kind: Any = type(value)
        return {name: getattr(value, name) for name in _fields(kind)}
    return str(value)


@cache
def _fields(kind: type[Any]) -> tuple[str, ...]:
    return tuple(item.name for item in fields(kind))


# Made once: it is called for every answer of a model.
_ENCODER: Final = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=_plain)
