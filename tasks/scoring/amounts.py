"""Which number of a response answers a question that asks for one."""

from __future__ import annotations

from atomthink_plugin.tasks.scoring.asked import Asked
from atomthink_plugin.tasks.scoring.latex import tokens
from atomthink_plugin.tasks.scoring.numbers import Number, number_words, numbers
from atomthink_plugin.tasks.scoring.statements import closing, concludes, declines, emphasised, stated


def amount(asked: Asked, response: str) -> tuple[Number, str] | None:
    """Returns the number that answers the question and the rule that found it, None if the response has none."""
    whole = _only(response)
    if whole:
        return whole, "whole"
    for span in stated(response):
        number = _of_span(span)
        if number:
            return number, "stated"
    said = [sentence for sentence in asked.said(response) if not declines(sentence)]
    for sentence in said:
        number = asked.filled(sentence)
        if number:
            return number, "blank"
    for rule, candidates in (
        (
            "emphasis",
            [*(bold for s in reversed(said) if concludes(s) for bold in emphasised(s)), *emphasised(response)],
        ),
        ("conclusion", [s for s in reversed(said) if concludes(s)]),
        ("closing", [line for line in closing(response) if len(numbers(line)) == 1 and not declines(line)]),
        ("restated", asked.restated(said)),
        ("last", said[::-1]),
    ):
        number = next(filter(None, map(asked.number, candidates)), None)
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
