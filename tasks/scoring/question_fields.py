"""Reading a benchmark's record, whose fields may be None, NaN or empty as datasets from a hub have them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from atomthink_plugin.api import AtomThinkError


def column(question: Mapping[str, Any], name: str, benchmark: str) -> Any:
    """Returns a field of a record, None where it is None or NaN.

    Raises:
        AtomThinkError: The record has no such column.
    """
    if name not in question:
        raise AtomThinkError(
            f"column {name!r} is missing from a {benchmark} question (it has {sorted(question)}): "
            "give the benchmark's own record, as its dataset has it"
        )
    value = question[name]
    return None if isinstance(value, float) and value != value else value


def text(question: Mapping[str, Any], name: str, benchmark: str) -> str:
    """Returns a field as text, empty where it is None or NaN."""
    value = column(question, name, benchmark)
    return "" if value is None else str(value)


def options(question: Mapping[str, Any], name: str, benchmark: str) -> tuple[str, ...]:
    """Returns a field that lists options, empty where there are none."""
    value = column(question, name, benchmark)
    if value is None or isinstance(value, str) or not isinstance(value, Iterable):
        return ()
    return tuple(str(option) for option in value)
