"""What judging one response comes to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AnswerVerdict:
    """What a response answers and whether that is right.

    Attributes:
        extracted: The answer as the response has it, None if it gives none.
        normalized: The answer in the benchmark's own form (an option's text or letter, a rounded number), None if
            it has none there. This is what a submission holds and what was compared.
        correct: Whether it is the reference answer.
        rule: Which rule found the answer, or `none`.
    """

    extracted: str | None
    normalized: str | None
    correct: bool
    rule: str


@dataclass(frozen=True, slots=True)
class ExtractedAnswer:
    """An answer found in a response, before it is compared with anything.

    Attributes:
        text: As the response has it.
        value: In the benchmark's own form.
        rule: The rule that found it.
    """

    text: str
    value: str | None
    rule: str


def compared(found: ExtractedAnswer | None, right: Callable[[str], bool]) -> AnswerVerdict:
    """Returns the verdict on an answer that was found, or on none."""
    if found is None:
        return AnswerVerdict(None, None, False, "none")
    return AnswerVerdict(found.text, found.value, found.value is not None and right(found.value), found.rule)
