"""Rows of JSON and JSONL files, and rows that cannot be used, with their reasons."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from pydantic import ValidationError

from atomthink_plugin.api import AtomThinkError


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that cannot be used: its file and line or its id, what is wrong with it, and how it was read."""

    where: str
    reason: str
    record: Any


def json_rows(file: Path) -> Iterator[tuple[str, Any]]:
    """Yields the rows of a JSONL file, or of a JSON file with one list, each with its place `file:number`.

    A file that ends in `.gz` is decompressed.

    A line that is not JSON is yielded as a `Reject`. The `datasets` library would refuse the whole file.

    Raises:
        AtomThinkError: The file cannot be read.
    """
    try:
        with open_binary(file) as lines:
            whole = _whole(file, lines)
            if whole is not None:
                yield from ((f"{file.name}:{number}", row) for number, row in enumerate(whole, start=1))
                return
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    where = f"{file.name}:{number}"
                    yield where, _parsed(where, line)
    except (OSError, EOFError, zlib.error) as error:
        raise AtomThinkError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def open_binary(file: Path) -> BinaryIO:
    """Opens a file, decompressed if its name ends in `.gz`."""
    # A GzipFile reads like a file, although its type is another one.
    return cast(BinaryIO, gzip.open(file)) if file.suffix == ".gz" else file.open("rb")


def _whole(file: Path, lines: BinaryIO) -> list[Any] | None:
    """Returns the rows of a file that is a single JSON value, None if it has one value per line."""
    first = next((line for line in lines if line.strip()), b"")
    lines.seek(0)
    is_list = first.lstrip().startswith(b"[")
    if not is_list and not file.name.removesuffix(".gz").endswith(".json"):
        return None
    try:
        found = json.loads(lines.read())
    except (ValueError, RecursionError) as error:
        if is_list and isinstance(_parsed("", first), Reject):
            raise AtomThinkError(f"{file} is no JSON: {error}") from None
        lines.seek(0)
        return None
    return found if isinstance(found, list) else [found]


def _parsed(where: str, line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        return Reject(where, f"no JSON: {error}", line.decode("utf-8", "replace").strip())


def describe_error(error: ValueError) -> str:
    """Returns why a record is not valid, in one line: the fields and faults that pydantic found, or the message."""
    if not isinstance(error, ValidationError):
        return str(error)
    faults = [
        (".".join(map(str, e["loc"])) or "record", e["msg"].removeprefix("Value error, ")) for e in error.errors()
    ]
    return "; ".join(f"{field}: {fault}" for field, fault in faults)


def first_reason(rejects: Sequence[Reject]) -> str:
    """Returns the end of a message that quotes the first reject; empty if there are no rejects."""
    return f"; the first: {rejects[0].where}: {rejects[0].reason}" if rejects else ""


def nothing_usable(source: object, rejects: Sequence[Reject]) -> AtomThinkError:
    """Returns the error for a source without a usable record."""
    return AtomThinkError(f"{source} has no usable record ({len(rejects)} rejected{first_reason(rejects)})")
