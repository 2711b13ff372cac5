"""The answer extracted from a response, and the verdict on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AnswerVerdict:
    """The answer of a response and whether it is correct.

    Attributes:
        extracted: The answer as the response writes it, None if it gives none.
        normalized: The answer in the benchmark's own form (an option's text or letter, a rounded number), None if it
            has no such form. This is what was compared and what a submission contains.
        correct: Whether it equals the reference answer.
        rule: The rule that found the answer, or `none`.
    """

    extracted: str | None
    normalized: str | None
    correct: bool
    rule: str


@dataclass(frozen=True, slots=True)
class ExtractedAnswer:
    """An answer found in a response, before it is compared with the reference.

    Attributes:
        text: The answer as the response writes it.
        value: The answer in the benchmark's own form, None if it has no such form.
        rule: The rule that found it.
    """

    text: str
    value: str | None
    rule: str


def verdict_on(answer: ExtractedAnswer | None, is_correct: Callable[[str], bool]) -> AnswerVerdict:
    """Returns the verdict on an extracted answer; None, for a response without an answer, is wrong."""
    if answer is None:
        return AnswerVerdict(None, None, False, "none")
    correct = answer.value is not None and is_correct(answer.value)
    return AnswerVerdict(answer.text, answer.value, correct, answer.rule)
