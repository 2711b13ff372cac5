"""What a question says, by which its answer is told from what it repeats."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from atomthink_plugin.tasks.scoring.latex import tokens
from atomthink_plugin.tasks.scoring.numbers import Number, number_words, numbers
from atomthink_plugin.tasks.scoring.text import sentences

_VERB: Final = re.compile(
    r"(?:\b(?:is|are|was|were|be|equals?|approximately|about|around|roughly|has|have|had|remain|remains|of|to|only|by|exactly|just|at|gives?|get|getting|got|been|is an?|was an?)\b|[=≈:：为是])"
    r"[\s*\"'$(\\]{0,6}$",
    re.IGNORECASE,
)
_QUALIFIES: Final = re.compile(
    r"\b(?:out of|than|above|below|over|under|from|between|since|until|subject|figure|step|exceeds?|per)\s?$",
    re.IGNORECASE,
)
_STOP: Final = frozenset(
    "the and for are was were does did has have had how many much what which who whose when where there this that these "
    "those with from into its their they them you your our his her not can will would one".split()
)
_HEAD: Final = re.compile(
    r"\b(?:what(?: is|'s| was| were| are)|find|calculate|determine) the ([\w ]{1,60}?)(?= (?:of|in|between|for|on|from|that|by|to|at)\b|[?.:,]|$)",
    re.IGNORECASE,
)
_YEAR: Final = re.compile(r"\b(?:which|what|in which|in what) years?\b", re.IGNORECASE)
_SHARE: Final = re.compile(r"\b(?:percent|percentage)\b", re.IGNORECASE)
_BLANK: Final = re.compile(r"\(_\)|_{2,}|\(\s*\)|（\s*）")


class Asked:
    """A question: its numbers, its words, its sentences, and the words around its blank."""

    def __init__(self, question: str) -> None:
        self.values = {number.value for number in (*numbers(question), *number_words(question))}
        asking = _asking(question)
        self._words = _content(asking)
        head = _HEAD.search(asking)
        self._head = head[1].split()[-1].lower() if head and head[1].split() else ""
        self._year, self._share = _YEAR.search(asking) is not None, _SHARE.search(asking) is not None
        self._sentences = {" ".join(tokens(sentence)) for sentence in sentences(question)}
        self._around = _around_blank(question)

    def said(self, response: str) -> list[str]:
        """Returns the sentences of a response that are not the question's own."""
        return [s for s in sentences(response) if " ".join(tokens(s)) not in self._sentences]

    def overlap(self, sentence: str) -> float:
        """Returns the share of the question's words that a sentence says again."""
        return len(self._words & _content(sentence)) / max(1, len(self._words))

    def restated(self, said: Sequence[str]) -> list[str]:
        """Returns the sentences that say half of the question again or name what it asks for, the closest in front."""
        ranks = [
            (self._head in tokens(sentence), self.overlap(sentence), -index, sentence)
            for index, sentence in enumerate(said)
        ]
        return [sentence for head, share, _, sentence in sorted(ranks, reverse=True) if head or share >= 0.5]

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
        found = self._fitting(sentence, found)
        equals = sentence.rfind("=")
        behind = [number for number in found if number.start > equals >= 0]
        return behind[0] if behind else _behind_verb(sentence, found) or found[-1]

    def _fitting(self, sentence: str, found: Sequence[Number]) -> Sequence[Number]:
        """Narrows numbers down to those of the kind asked for, not in the question, and not what others are compared with."""
        for fits in (
            lambda n: not self._year or (n.value.denominator == 1 and 1000 <= n.value < 3000),
            lambda n: not self._share or n.text.endswith("%"),
            lambda n: n.value not in self.values,
            lambda n: not _QUALIFIES.search(sentence[max(0, n.start - 20) : n.start]),
        ):
            found = [number for number in found if fits(number)] or found
        return found


def _asking(question: str) -> str:
    """Returns the sentence of a question that asks."""
    written = sentences(question)
    return next((s for s in reversed(written) if "?" in s), written[-1] if written else "")


def _content(sentence: str) -> set[str]:
    return {token for token in tokens(sentence) if len(token) > 2 and token.isalpha() and token not in _STOP}


def _around_blank(question: str) -> tuple[list[str], list[str]] | None:
    blank = _BLANK.search(question)
    if blank is None:
        return None
    return tokens(question[: blank.start()])[-2:], tokens(question[blank.end() :])[:2]


def _behind_verb(sentence: str, found: Iterable[Number]) -> Number | None:
    """Returns the last number that directly follows a verb of being."""
    behind = [number for number in found if _VERB.search(sentence[max(0, number.start - 40) : number.start])]
    return behind[-1] if behind else None
