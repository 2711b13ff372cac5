"""Parts of prompts, for formats and for those who read what a format renders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from atomthink_plugin.api import ChainFormat, Format, Message, Path, Unit


def append(messages: tuple[Message, ...], text: str) -> tuple[Message, ...]:
    """Returns the turns with `text` at the end of the last one."""
    last = messages[-1]
    return (*messages[:-1], replace(last, parts=(*last.parts, text)))


def prepend(messages: tuple[Message, ...], text: str) -> tuple[Message, ...]:
    """Returns the turns with `text` before the last one's first text, after images that lead it."""
    last = messages[-1]
    at = next((i for i, part in enumerate(last.parts) if isinstance(part, str)), len(last.parts))
    return (*messages[:-1], replace(last, parts=(*last.parts[:at], text, *last.parts[at:])))


def check_not_empty(text: str, history: Sequence[str]) -> str | None:
    """Says that a unit is empty: a check for units that may hold any text, see `Unit.check`."""
    return None if text.strip() else "empty"


def begun_opening(reply: str, unit: Unit) -> str:
    """Returns the part of the unit's opening that the beginning of the reply already ends with; empty if none.

    Example:
        >>> begun_opening("<SUMMARY>", Unit("SUMMARY", opening="<SUMMARY> "))
        '<SUMMARY>'
    """
    beginnings = (unit.opening[:length] for length in range(len(unit.opening), 0, -1))
    return next((beginning for beginning in beginnings if reply.endswith(beginning)), "")


def answer_at(format: Format, path: Path) -> str | None:
    """Returns the final answer that a format reads at the end of a path, None if the path does not conclude there."""
    if isinstance(format, ChainFormat):
        return format.answer_at(path)
    return format.answer(path.step.text) if path.step is not None else None
