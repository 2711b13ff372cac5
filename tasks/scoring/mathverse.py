"""MathVerse: an option by its letter, or a free answer that equals the reference."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from atomthink_plugin.tasks.scoring import record
from atomthink_plugin.tasks.scoring.asked import Asked
from atomthink_plugin.tasks.scoring.choices import LETTERS, Options
from atomthink_plugin.tasks.scoring.equality import same
from atomthink_plugin.tasks.scoring.expressions import expression
from atomthink_plugin.tasks.scoring.text import tidy
from atomthink_plugin.tasks.scoring.verdict import Found, Verdict, compared

_CHOICES: Final = re.compile(r"\bChoices?:\s*", re.IGNORECASE)
_CHOICE: Final = re.compile(r"(?:^|\n|\s)\(?([A-J])\s?[:.)]\s?")


def judge(question: Mapping[str, Any], response: str) -> Verdict:
    """Judges a response to a MathVerse question."""
    found = find(question, tidy(response))
    answer = record.text(question, "answer", "mathverse").strip()
    if _multiple(question):
        return compared(found, lambda value: value == answer.strip("(). ")[:1].upper())
    return compared(found, lambda value: same(value, answer))


def find(question: Mapping[str, Any], response: str) -> Found | None:
    """Finds the answer in a response, without looking at the reference."""
    text = record.text(question, "question", "mathverse")
    if _multiple(question):
        stem, choices = split_choices(text)
        chosen = Options(choices or LETTERS[:4]).choose(Asked(stem), response)
        return Found(chosen[1], LETTERS[chosen[0]], chosen[2]) if chosen else None
    hit = expression(Asked(text), response)
    return Found(hit[0], hit[0], hit[1]) if hit else None


def split_choices(text: str) -> tuple[str, tuple[str, ...]]:
    """Returns a question without its choices, and the choices in order; they are part of the text in MathVerse.

    Example:
        >>> split_choices("Find x.\\nChoices:\\nA:40°\\nB:60°")
        ('Find x.', ('40°', '60°'))
    """
    head = _CHOICES.search(text)
    if head is None:
        return text, ()
    pieces = _CHOICE.split("\n" + text[head.end() :])
    letters, choices = pieces[1::2], pieces[2::2]
    ordered = letters == list(LETTERS[: len(letters)])
    return text[: head.start()].strip(), tuple(choice.strip() for choice in choices) if ordered else ()


def _multiple(question: Mapping[str, Any]) -> bool:
    return record.text(question, "question_type", "mathverse") == "multi-choice"
