"""Data inside an HTML file: gzipped JSON in base64, in pieces that the browser unpacks on demand."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

from atomthink_plugin.redaction import redact

PIECE: Final = 256_000
"""Characters of JSON in one piece. It unpacks in a few milliseconds and is long enough to compress well."""


def packed(value: Any) -> str:
    """Returns a value as base64 of gzipped JSON, which contains no HTML markup."""
    return _packed(_dump(value))


def pieces(values: Iterable[Any]) -> Iterator[tuple[int, str]]:
    """Yields packed lists of the values with their lengths. Only one list is in memory at a time."""
    waiting: list[str] = []
    size = 0
    for value in values:
        text = _dump(value)
        if waiting and size + len(text) > PIECE:
            yield len(waiting), _packed(f"[{','.join(waiting)}]")
            waiting, size = [], 0
        waiting.append(text)
        size += len(text)
    if waiting:
        yield len(waiting), _packed(f"[{','.join(waiting)}]")


def _dump(value: Any) -> str:
    return redact(json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False))


def _packed(text: str) -> str:
    # Lone surrogates have no UTF-8. Without a time stamp, equal runs give equal pages.
    return base64.b64encode(gzip.compress(text.encode("utf-8", "replace"), 9, mtime=0)).decode("ascii")
