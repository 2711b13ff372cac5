"""The encoding of journal records: one line of JSON that ends with a checksum."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, Final

from atomthink_plugin.append_log import decode_json

_CHECKSUM: Final = b',"checksum":"%08x"}'
_CHECKSUM_SIZE: Final = len(_CHECKSUM % 0)

_UNCHECKED: Final = {"key", "question", "text", "images", "status", "outcome", "failure"}
"""Fields of records without a checksum, from older versions. A damaged checksum has another field name."""


def dump(value: Any) -> str:
    """Returns a value as JSON. Dataclasses become objects; other types that JSON does not have become text."""
    return _ENCODER.encode(value)


def encode(record: Mapping[str, Any], errors: str = "replace") -> bytes:
    """Returns a record as one line that ends with its checksum.

    Args:
        record: The record.
        errors: Treatment of lone surrogates: "surrogatepass" keeps them, for files that no other program reads.
    """
    body = dump(record)[:-1].encode("utf-8", errors)
    return body + _CHECKSUM % zlib.crc32(body) + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """Returns the record of a line.

    Raises:
        ValueError: The line is damaged.
    """
    body, checksum = line.rstrip()[:-_CHECKSUM_SIZE], line.rstrip()[-_CHECKSUM_SIZE:]
    record = decode_json(line)
    if checksum != _CHECKSUM % zlib.crc32(body) and record.keys() - _UNCHECKED:
        raise ValueError("its checksum is wrong")
    return record


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        kind: Any = type(value)
        return {name: getattr(value, name) for name in _fields(kind)}
    return str(value)


@cache
def _fields(kind: type[Any]) -> tuple[str, ...]:
    return tuple(item.name for item in fields(kind))


# One object, because it is used for every model answer.
_ENCODER: Final = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=_plain)
