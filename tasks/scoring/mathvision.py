"""MATH-Vision: an option by its letter, or a free answer that equals the reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from atomthink_plugin.tasks.scoring import question_fields
from atomthink_plugin.tasks.scoring.choices import LETTERS, Options
from atomthink_plugin.tasks.scoring.equality import same
from atomthink_plugin.tasks.scoring.expressions import expression
from atomthink_plugin.tasks.scoring.question_text import QuestionText
from atomthink_plugin.tasks.scoring.text import tidy
from atomthink_plugin.tasks.scoring.verdict import AnswerVerdict, ExtractedAnswer, compared


def judge(question: Mapping[str, Any], response: str) -> AnswerVerdict:
    """Judges a response to a MATH-Vision question."""
    found = find(question, tidy(response))
    answer = question_fields.text(question, "answer", "mathvision").strip()
    if question_fields.options(question, "options", "mathvision"):
        return compared(found, lambda value: value == answer)
    return compared(found, lambda value: same(value, answer))


def find(question: Mapping[str, Any], response: str) -> ExtractedAnswer | None:
    """Finds the answer in a response, without looking at the reference."""
    asked = QuestionText(question_fields.text(question, "question", "mathvision"))
    options = question_fields.options(question, "options", "mathvision")
    if options:
        chosen = Options(options).choose(asked, response)
        return ExtractedAnswer(chosen[1], LETTERS[chosen[0]], chosen[2]) if chosen else None
    hit = expression(asked, response)
    return ExtractedAnswer(hit[0], hit[0], hit[1]) if hit else None
