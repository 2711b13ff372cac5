"""MathVerse: an option by its letter, or a free answer that equals the reference."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from atomthink_plugin.tasks.scoring import question_fields
from atomthink_plugin.tasks.scoring.equality import same
from atomthink_plugin.tasks.scoring.free_answers import find_expression
from atomthink_plugin.tasks.scoring.latex import tokens
from atomthink_plugin.tasks.scoring.options import LETTERS, Options
from atomthink_plugin.tasks.scoring.question_text import QuestionText
from atomthink_plugin.tasks.scoring.statements import answer_statements
from atomthink_plugin.tasks.scoring.text import normalize
from atomthink_plugin.tasks.scoring.verdict import AnswerVerdict, ExtractedAnswer, verdict_on

_MANY: Final = re.compile(r"\bchoose (?:\d|two|three|all)\b|\bwhich two\b|all that apply", re.IGNORECASE)
_LETTER: Final = re.compile(r"(?<![A-Za-z\\])[A-J](?![A-Za-z'])")
_CHOICES: Final = re.compile(r"\bChoices?:\s*", re.IGNORECASE)
_CHOICE: Final = re.compile(r"(?:^|\n|\s)\(?([A-J])\s?[:.)]\s?")


def judge(question: Mapping[str, Any], response: str) -> AnswerVerdict:
    """Judges a response to a MathVerse question."""
    found = extract_answer(question, normalize(response))
    answer = question_fields.text(question, "answer", "mathverse").strip()
    choices = _choices(question)[1]
    if choices:
        wanted = reference_letters(answer, choices)
        return verdict_on(found, lambda value: value == wanted)
    return verdict_on(found, lambda value: same(value, answer))


def extract_answer(question: Mapping[str, Any], response: str) -> ExtractedAnswer | None:
    """Returns the answer of a response, None if it gives none."""
    stem, choices = _choices(question)
    if choices and _MANY.search(stem):
        return _several(response, len(choices))
    if choices:
        chosen = Options(choices).choose(QuestionText(stem), response)
        return ExtractedAnswer(chosen.words, LETTERS[chosen.index], chosen.rule) if chosen else None
    found = find_expression(QuestionText(stem), response)
    return ExtractedAnswer(found[0], *found) if found else None


def reference_letters(answer: str, choices: Sequence[str]) -> str:
    """Returns the letters of a reference: a letter, one letter per line, or in a few questions the text of a choice."""
    letters = [line.strip("(). ") for line in answer.splitlines()]
    if all(letter in LETTERS and len(letter) == 1 for letter in letters):
        return ", ".join(sorted(letters))
    texts = [tokens(choice) for choice in choices]
    return LETTERS[texts.index(tokens(answer))] if tokens(answer) in texts else answer


def _several(response: str, count: int) -> ExtractedAnswer | None:
    """Returns all letters of the first statement that names any."""
    for span in (*answer_statements(response), response):
        letters = sorted({letter for letter in _LETTER.findall(span) if letter in LETTERS[:count]})
        if letters:
            return ExtractedAnswer(span, ", ".join(letters), "letters")
    return None


def split_choices(text: str) -> tuple[str, tuple[str, ...]]:
    r"""Returns a question without its choices, and the choices in order. In MathVerse they are part of the text.

    Example:
        >>> split_choices("Find x.\nChoices:\nA:40°\nB:60°")
        ('Find x.', ('40°', '60°'))
    """
    head = _CHOICES.search(text)
    if head is None:
        return text, ()
    pieces = _CHOICE.split("\n" + text[head.end() :])
    letters, choices = pieces[1::2], pieces[2::2]
    ordered = letters == list(LETTERS[: len(letters)])
    return text[: head.start()].strip(), tuple(choice.strip() for choice in choices) if ordered else ()


def _choices(question: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    text = question_fields.text(question, "question", "mathverse")
    if question_fields.text(question, "question_type", "mathverse") != "multi-choice":
        return text, ()
    stem, choices = split_choices(text)
    return stem, choices or tuple(LETTERS[:4])  # the choices may be in the image
