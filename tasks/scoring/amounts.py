"""Which number of a response answers a question that asks for one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from atomthink_plugin.tasks.scoring.latex import tokens
from atomthink_plugin.tasks.scoring.numbers import Number, number_words, numbers
from atomthink_plugin.tasks.scoring.statements import concludes, declines, emphasised, stated
from atomthink_plugin.tasks.scoring.text import sentences

_COPULA: Final = re.compile(
    r"\b(?:is|are|was|were|be|equals?|approximately|about|around|roughly|has|have|had|left with|remain|remains|total of|to)\b|[=≈:：为是]",
    re.IGNORECASE,
)


def amount(question: str, response: str) -> tuple[Number, str] | None:
    """Returns the number that answers the question and the rule that found it, None if the response has none."""
    whole = _only(response)
    if whole:
        return whole, "whole"
    for span in stated(response):
        number = _of_span(span)
        if number:
            return number, "stated"
    said = [sentence for sentence in sentences(response) if not declines(sentence)]
    asked = _Asked(question)
    for rule, candidates in (
        ("conclusion", [s for s in reversed(said) if concludes(s)]),
        ("emphasis", emphasised(response)),
        ("restated", [s for s in said if asked.restated(s)]),
        ("last", reversed(said)),
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
    rest = len(tokens(text)) if found else 0
    return found[0] if len(found) == 1 and rest <= 3 else None


def _of_span(span: str) -> Number | None:
    """Returns the number a statement names: behind its last equals sign, else its first."""
    found = numbers(span) or number_words(span)
    behind = span.rfind("=")
    return next((n for n in found if n.start > behind), None) if found else None


class _Asked:
    """What a question names, which its answer seldom is."""

    def __init__(self, question: str) -> None:
        self._values = {number.value for number in (*numbers(question), *number_words(question))}
        self._words = {token for token in tokens(question) if len(token) > 2 and token.isalpha()}

    def restated(self, sentence: str) -> bool:
        """Whether a sentence says half of the question's words again."""
        return len(self._words & set(tokens(sentence))) * 2 >= len(self._words)

    def number(self, sentence: str) -> Number | None:
        """Returns the number a sentence arrives at: new, and behind its verb or equals sign."""
        found = numbers(sentence) or [w for w in number_words(sentence)]
        if not found:
            return None
        new = [number for number in found if number.value not in self._values] or found
        equals = sentence.rfind("=")
        behind = [number for number in new if number.start > equals >= 0]
        if behind:
            return behind[0]
        return _behind_verb(sentence, new) or new[-1]


def _behind_verb(sentence: str, found: Iterable[Number]) -> Number | None:
    """Returns the first number that directly follows a verb of being."""
    for number in found:
        if re.search(_COPULA.pattern + r"\W{0,6}$", sentence[max(0, number.start - 30) : number.start], re.IGNORECASE):
            return number
    return None
