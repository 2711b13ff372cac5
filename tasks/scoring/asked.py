"""What a question says, by which its answer is told from what it repeats."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from atomthink_plugin.tasks.scoring.latex import tokens
from atomthink_plugin.tasks.scoring.numbers import Number, number_words, numbers
from atomthink_plugin.tasks.scoring.text import sentences

_VERB: Final = re.compile(
    r"(?:\b(?:is|are|was|were|be|equals?|approximately|about|around|roughly|has|have|had|remain|remains|of|to|only|by|exactly|just|at|gives?|get|getting|got|been)\b|[=≈:：为是])"
    r"[\s*\"'$(\\]{0,6}$",
    re.IGNORECASE,
)
_BLANK: Final = re.compile(r"\(_\)|_{2,}|\(\s*\)|（\s*）")


class Asked:
    """A question: its numbers, its words, its sentences, and the words around its blank."""

    def __init__(self, question: str) -> None:
        self.values = {number.value for number in (*numbers(question), *number_words(question))}
        self._words = {token for token in tokens(question) if len(token) > 2 and token.isalpha()}
        self._sentences = {" ".join(tokens(sentence)) for sentence in sentences(question)}
        self._around = _around_blank(question)

    def said(self, response: str) -> list[str]:
        """Returns the sentences of a response that are not the question's own."""
        return [s for s in sentences(response) if " ".join(tokens(s)) not in self._sentences]

    def overlap(self, sentence: str) -> float:
        """Returns the share of the question's words that a sentence says again."""
        return len(self._words & set(tokens(sentence))) / max(1, len(self._words))

    def restated(self, said: Sequence[str]) -> list[str]:
        """Returns the sentences that say half of the question again, the fullest and then the first in front."""
        shares = [(self.overlap(sentence), -index, sentence) for index, sentence in enumerate(said)]
        return [sentence for share, _, sentence in sorted(shares, reverse=True) if share >= 0.5]

    def filled(self, sentence: str) -> Number | None:
        """Returns the number that stands where the question has its blank."""
        if self._around is None:
            return None
        before, behind = self._around
        for number in numbers(sentence) or number_words(sentence):
            left, right = tokens(sentence[: number.start])[-2:], tokens(sentence[number.end :])[:2]
            if right == behind and right and (left == before or len(right) == 2):
                return number
        return None

    def number(self, sentence: str) -> Number | None:
        """Returns the number a sentence arrives at: new, and behind an equals sign or a verb."""
        found = numbers(sentence) or number_words(sentence)
        if not found:
            return None
        new = [number for number in found if number.value not in self.values] or found
        equals = sentence.rfind("=")
        behind = [number for number in new if number.start > equals >= 0]
        return behind[0] if behind else _behind_verb(sentence, new) or new[-1]


def _around_blank(question: str) -> tuple[list[str], list[str]] | None:
    blank = _BLANK.search(question)
    if blank is None:
        return None
    return tokens(question[: blank.start()])[-2:], tokens(question[blank.end() :])[:2]


def _behind_verb(sentence: str, found: Iterable[Number]) -> Number | None:
    """Returns the first number that directly follows a verb of being."""
    return next((n for n in found if _VERB.search(sentence[max(0, n.start - 40) : n.start])), None)
