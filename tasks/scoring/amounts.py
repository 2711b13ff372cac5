"""Which number of a response answers a question that asks for one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from atomthink_plugin.tasks.scoring.latex import tokens
from atomthink_plugin.tasks.scoring.question_text import QuestionText, plans
from atomthink_plugin.tasks.scoring.stated_numbers import Number, number_words, numbers
from atomthink_plugin.tasks.scoring.statements import closing, concludes, declares, emphasised, stated


def amount(asked: QuestionText, response: str) -> tuple[Number, str] | None:
    """Returns the number that answers the question and the rule that found it, None if the response has none."""
    whole = _only(response)
    if whole:
        return whole, "whole"
    for span in stated(response):
        number = _of_span(span)
        if number:
            return number, "stated"
    said = declares(asked.said(response))
    bold = [phrase for sentence in reversed(said) if concludes(sentence) for phrase in emphasised(sentence)]
    rules: tuple[tuple[str, Sequence[str], Callable[[str], Number | None]], ...] = (
        ("blank", said[::-1], lambda sentence: asked.filled(sentence, 2)),
        ("emphasis", [*bold, *emphasised(response)], asked.number),
        ("conclusion", [s for s in reversed(said) if concludes(s)], asked.number),
        ("closing", [line for line in declares(closing(response)) if len(numbers(line)) == 1], asked.number),
        ("blank", [s for s in reversed(said) if not plans(s)], lambda sentence: asked.filled(sentence, 1)),
        ("restated", asked.restated(said), asked.number),
        ("last", said[::-1], asked.number),
    )
    for rule, candidates, find in rules:
        number = next(filter(None, map(find, candidates)), None)
        if number:
            return number, rule
    return None


def _only(text: str) -> Number | None:
    """Returns the number that a short text consists of, apart from a unit."""
    if len(text) > 60 or "\n" in text:
        return None
    found = numbers(text) or number_words(text)
    return found[0] if len(found) == 1 and len(tokens(text)) <= 3 else None


def _of_span(span: str) -> Number | None:
    """Returns the number a statement names: behind its last equals sign, else its first."""
    found = numbers(span) or number_words(span)
    behind = span.rfind("=")
    return next((n for n in found if n.start > behind), None) if found else None
