"""Question and steps as turns of a chat: what every layout of a process reward model makes of a path."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from atomthink_plugin.scorers.prm_profile import FIELDS

Parts = tuple[str | None, ...]
"""Texts and images in reading order; None stands for the next image of the question."""

_FIELD: Final = re.compile(r"\{(?:(?P<image>image)\}(?P<line>\n?)|(?P<name>" + "|".join(FIELDS[1:]) + r")\})")
"""A field of a template."""

_LABEL: Final = re.compile(r"\A\s*step\s+\d+\s*[:.]\s*", re.IGNORECASE)
"""The label of a step, `Step 3: `."""


@dataclass(frozen=True, slots=True)
class AskedText:
    """What a layout writes of a question.

    Attributes:
        question: Its text, without control tokens.
        images: Number of images that the PRM gets.
        bos: The tokenizer's beginning of a sequence as text; empty if it has none.
    """

    question: str
    images: int = 0
    bos: str = ""


@dataclass(frozen=True, slots=True)
class LayoutTurn:
    """A complete turn of a chat."""

    role: Literal["system", "user", "assistant"]
    parts: Parts


@dataclass(frozen=True, slots=True)
class Arrangement:
    """A path as a PRM reads it. It ends at the reading position.

    Attributes:
        turns: Complete turns.
        role: Whose turn follows; `none` for a bare text without chat markup.
        begun: Beginning of that turn, up to the reading position.
    """

    turns: tuple[LayoutTurn, ...]
    role: Literal["none", "user", "assistant"]
    begun: Parts = ()


def fill(template: str, asked: AskedText, **values: str) -> Parts:
    """Returns a template of a profile with its fields filled in.

    `{image}`, with a line break directly after it, is written once per image, and left out without images.

    Args:
        template: Text with fields such as `{question}`.
        asked: The question.
        values: Values of further fields: `step`, `steps`, `k`, `tag`.
    """
    known: Mapping[str, str] = {"question": asked.question, "bos": asked.bos, **values}
    parts: list[str | None] = []
    at = 0
    for field in _FIELD.finditer(template):
        parts.append(template[at : field.start()])
        if field["image"]:
            parts += [None, field["line"]] * asked.images
        else:
            parts.append(known.get(field["name"], field[0]))
        at = field.end()
    parts.append(template[at:])
    return merged(parts)


def merged(parts: list[str | None]) -> Parts:
    """Returns parts with neighbouring texts joined and empty ones left out."""
    joined: list[str | None] = []
    for part in parts:
        last = joined[-1] if joined else None
        if part is not None and last is not None:
            joined[-1] = last + part
        elif part != "":
            joined.append(part)
    return tuple(joined)


def step_values(template: str, step: str, k: int) -> dict[str, str]:
    """Returns the values of `{step}` and `{k}`. A step's own label is left out where the template writes one."""
    return {"step": _LABEL.sub("", step) if "{k}" in template else step, "k": str(k)}
