"""Reads fields of a benchmark's question record, which may be None, NaN or empty in a data set from the hub."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from atomthink_plugin.api import AtomThinkError


def column(question: Mapping[str, Any], name: str, benchmark: str) -> Any:
    """Returns a field of a record, None if it is None or NaN.

    Raises:
        AtomThinkError: The record has no such column.
    """
    if name not in question:
        raise AtomThinkError(
            f"column {name!r} is missing from a {benchmark} question, which has the columns {sorted(question)}. Pass "
            "the record as the benchmark's data set has it"
        )
    value = question[name]
    return None if isinstance(value, float) and value != value else value


def text(question: Mapping[str, Any], name: str, benchmark: str) -> str:
    """Returns a field as text, empty if it is None or NaN."""
    value = column(question, name, benchmark)
    return "" if value is None else str(value)


def options(question: Mapping[str, Any], name: str, benchmark: str) -> tuple[str, ...]:
    """Returns the options in a field, empty if it has none."""
    value = column(question, name, benchmark)
    if value is None or isinstance(value, str) or not isinstance(value, Iterable):
        return ()
    return tuple(str(option) for option in value)
