"""MATH-Vision: an option by its letter, or a free answer that equals the reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from atomthink_plugin.tasks.scoring import question_fields
from atomthink_plugin.tasks.scoring.equality import same
from atomthink_plugin.tasks.scoring.free_answers import find_expression
from atomthink_plugin.tasks.scoring.options import LETTERS, Options
from atomthink_plugin.tasks.scoring.question_text import QuestionText
from atomthink_plugin.tasks.scoring.text import normalize
from atomthink_plugin.tasks.scoring.verdict import AnswerVerdict, ExtractedAnswer, verdict_on


def judge(question: Mapping[str, Any], response: str) -> AnswerVerdict:
    """Judges a response to a MATH-Vision question."""
    found = extract_answer(question, normalize(response))
    answer = question_fields.text(question, "answer", "mathvision").strip()
    if question_fields.options(question, "options", "mathvision"):
        return verdict_on(found, lambda value: value == answer)
    return verdict_on(found, lambda value: same(value, answer))


def extract_answer(question: Mapping[str, Any], response: str) -> ExtractedAnswer | None:
    """Returns the answer of a response, None if it gives none."""
    text = QuestionText(question_fields.text(question, "question", "mathvision"))
    options = question_fields.options(question, "options", "mathvision")
    if options:
        chosen = Options(options).choose(text, response)
        return ExtractedAnswer(chosen.words, LETTERS[chosen.index], chosen.rule) if chosen else None
    found = find_expression(text, response)
    return ExtractedAnswer(found[0], *found) if found else None
