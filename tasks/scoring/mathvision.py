"""MATH-Vision: an option by its letter, or a free answer that equals the reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from atomthink_plugin.tasks.scoring import record
from atomthink_plugin.tasks.scoring.asked import Asked
from atomthink_plugin.tasks.scoring.choices import LETTERS, Options
from atomthink_plugin.tasks.scoring.equality import same
from atomthink_plugin.tasks.scoring.expressions import expression
from atomthink_plugin.tasks.scoring.text import tidy
from atomthink_plugin.tasks.scoring.verdict import Found, Verdict, compared


def judge(question: Mapping[str, Any], response: str) -> Verdict:
    """Judges a response to a MATH-Vision question."""
    found = find(question, tidy(response))
    answer = record.text(question, "answer", "mathvision").strip()
    if record.options(question, "options", "mathvision"):
        return compared(found, lambda value: value == answer)
    return compared(found, lambda value: same(value, answer))


def find(question: Mapping[str, Any], response: str) -> Found | None:
    """Finds the answer in a response, without looking at the reference."""
    asked = Asked(record.text(question, "question", "mathvision"))
    options = record.options(question, "options", "mathvision")
    if options:
        chosen = Options(options).choose(asked, response)
        return Found(chosen[1], LETTERS[chosen[0]], chosen[2]) if chosen else None
    hit = expression(asked, response)
    return Found(hit[0], hit[0], hit[1]) if hit else None
