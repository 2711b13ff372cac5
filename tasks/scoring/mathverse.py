"""MathVerse: an option by its letter, or a free answer that equals the reference."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from atomthink_plugin.tasks.scoring import question_fields
from atomthink_plugin.tasks.scoring.choices import LETTERS, Options
from atomthink_plugin.tasks.scoring.equality import same
from atomthink_plugin.tasks.scoring.expressions import expression
from atomthink_plugin.tasks.scoring.latex import tokens
from atomthink_plugin.tasks.scoring.question_text import QuestionText
from atomthink_plugin.tasks.scoring.statements import stated
from atomthink_plugin.tasks.scoring.text import tidy
from atomthink_plugin.tasks.scoring.verdict import AnswerVerdict, ExtractedAnswer, compared

_MANY: Final = re.compile(r"\bchoose (?:\d|two|three|all)\b|\bwhich two\b|all that apply", re.IGNORECASE)
_LETTER: Final = re.compile(r"(?<![A-Za-z\\])[A-J](?![A-Za-z'])")
_CHOICES: Final = re.compile(r"\bChoices?:\s*", re.IGNORECASE)
_CHOICE: Final = re.compile(r"(?:^|\n|\s)\(?([A-J])\s?[:.)]\s?")


def judge(question: Mapping[str, Any], response: str) -> AnswerVerdict:
    """Judges a response to a MathVerse question."""
    found = find(question, tidy(response))
    answer = question_fields.text(question, "answer", "mathverse").strip()
    choices = _choices(question)[1]
    if choices:
        wanted = reference_letters(answer, choices)
        return compared(found, lambda value: value == wanted)
    return compared(found, lambda value: same(value, answer))


def find(question: Mapping[str, Any], response: str) -> ExtractedAnswer | None:
    """Finds the answer in a response, without looking at the reference."""
    stem, choices = _choices(question)
    if choices and _MANY.search(stem):
        return _several(response, len(choices))
    if choices:
        chosen = Options(choices).choose(QuestionText(stem), response)
        return ExtractedAnswer(chosen[1], LETTERS[chosen[0]], chosen[2]) if chosen else None
    hit = expression(QuestionText(stem), response)
    return ExtractedAnswer(hit[0], hit[0], hit[1]) if hit else None


def reference_letters(answer: str, choices: Sequence[str]) -> str:
    """Returns the letters of a reference, which is a letter, letters on lines, or now and then a choice's text."""
    letters = [line.strip("(). ") for line in answer.splitlines()]
    if all(letter in LETTERS and len(letter) == 1 for letter in letters):
        return ", ".join(sorted(letters))
    texts = [tokens(choice) for choice in choices]
    return LETTERS[texts.index(tokens(answer))] if tokens(answer) in texts else answer


def _several(response: str, count: int) -> ExtractedAnswer | None:
    """Finds the letters that the first statement with letters names."""
    for span in (*stated(response), response):
        letters = sorted({letter for letter in _LETTER.findall(span) if letter in LETTERS[:count]})
        if letters:
            return ExtractedAnswer(span, ", ".join(letters), "letters")
    return None


def split_choices(text: str) -> tuple[str, tuple[str, ...]]:
    r"""Returns a question without its choices, and the choices in order; they are part of the text in MathVerse.

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
