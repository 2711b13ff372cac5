"""What a question says, by which its answer is told from what it repeats."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from atomthink_plugin.tasks.scoring.latex import tokens
from atomthink_plugin.tasks.scoring.stated_numbers import Number, number_words, numbers
from atomthink_plugin.tasks.scoring.text import sentences

_BEING: Final = re.compile(
    r"(?:\b(?:is|are|was|were|be|been|equals?|equal to|approximately|about|around|roughly|exactly|only|just|is an?)"
    r"\b|[=≈:：为是])"
    r"[\s*\"'$(\\]{0,6}$",
    re.IGNORECASE,
)
_VERB: Final = re.compile(
    r"\b(?:has|have|had|remains?|of|to|by|at|gives?|get|getting|got|needs?)[\s*\"'$(\\]{1,6}$", re.IGNORECASE
)
_QUALIFIES: Final = re.compile(
    r"\b(?:out of|than|above|below|over|under|from|between|since|until|subject|figure|step|exceeds?|per)\s?$",
    re.IGNORECASE,
)
_STOP: Final = frozenset(
    [
        "the",
        "and",
        "for",
        "are",
        "was",
        "were",
        "does",
        "did",
        "has",
        "have",
        "had",
        "how",
        "many",
        "much",
        "what",
        "which",
        "who",
        "whose",
        "when",
        "where",
        "there",
        "this",
        "that",
        "these",
        "those",
        "with",
        "from",
        "into",
        "its",
        "their",
        "they",
        "them",
        "you",
        "your",
        "our",
        "his",
        "her",
        "not",
        "can",
        "will",
        "would",
        "one",
    ]
)
_HEAD: Final = re.compile(
    r"\b(?:what(?: is|'s| was| were| are)|find|calculate|determine) the ([\w ]{1,60}?)"
    r"(?= (?:of|in|between|for|on|from|that|by|to|at)\b|[?.:,]|$)",
    re.IGNORECASE,
)
_YEAR: Final = re.compile(r"\b(?:which|what|in which|in what) years?\b", re.IGNORECASE)
_COUNTED: Final = re.compile(r"\bhow many (\w{2,})", re.IGNORECASE)
_PLANS: Final = re.compile(
    r"(?:first|next|then|let's|let us|now|we (?:need|can|have to|must)|"
    r"to (?:find|determine|calculate|compute|answer|solve|get))\b",
    re.IGNORECASE,
)
_SHARE: Final = re.compile(r"\bwhat (?:is the )?percent(?:age)?\b", re.IGNORECASE)
_BLANK: Final = re.compile(r"\(_\)|_{2,}|\(\s*\)|（\s*）")


class QuestionText:
    """A question: its numbers, its words, its sentences, and the words around its blank."""

    def __init__(self, question: str) -> None:
        self._numbers = {number.value for number in numbers(question)}
        self._number_words = {number.value for number in number_words(question)}
        self.asking = asking = _asking(question)
        self._words = content(asking)
        head = _HEAD.search(asking)
        self._head = head[1].split()[-1].lower() if head and head[1].split() else ""
        counted = _COUNTED.search(asking)
        self._counted = counted[1].lower().rstrip("s") if counted else ""
        self._year, self._share = _YEAR.search(asking) is not None, _SHARE.search(asking) is not None
        self._sentences = {" ".join(tokens(sentence)) for sentence in sentences(question)}
        blank = _BLANK.search(question)
        self._behind_blank = tokens(question[blank.end() :])[:2] if blank else []
        self._counts_named = {(n.value, *tokens(question[n.end : n.end + 60])[:1]) for n in numbers(question)}

    def said(self, response: str) -> list[str]:
        """Returns the sentences of a response that are not the question's own."""
        return [s for s in sentences(response) if " ".join(tokens(s)) not in self._sentences]

    def overlap(self, sentence: str) -> float:
        """Returns the share of the question's words that a sentence says again."""
        return len(self._words & content(sentence)) / max(1, len(self._words))

    def restated(self, said: Sequence[str]) -> list[str]:
        """Returns the sentences that say half of the question again or name what it asks for, the closest in front."""
        ranks = [
            (not plans(sentence), self._head in tokens(sentence), self.overlap(sentence), -index, sentence)
            for index, sentence in enumerate(said)
        ]
        return [sentence for _, head, share, _, sentence in sorted(ranks, reverse=True) if head or share >= 0.5]

    def filled(self, sentence: str, words: int) -> Number | None:
        """Returns the number that stands where the question has its blank: the next words are the same ones."""
        for number in numbers(sentence) or number_words(sentence):
            behind = tokens(sentence[number.end : number.end + 60])[:words]
            if behind and behind == self._behind_blank[:words] and (number.value, behind[0]) not in self._counts_named:
                return number
        return None

    def repeats(self, number: Number) -> bool:
        """Whether a number is one of the question's own."""
        return number.value in (self._number_words if number.text.isalpha() else self._numbers)

    def number(self, sentence: str) -> Number | None:
        """Returns the number a sentence arrives at: new, and behind an equals sign or a verb."""
        found = numbers(sentence)
        if all(number.value in self._numbers for number in found):
            found = sorted([*found, *number_words(sentence)], key=lambda number: number.start)
        if not found:
            return None
        equals = sentence.rfind("=")
        behind = [number for number in found if number.start > equals >= 0]
        found = self._fitting(sentence, found)
        named = self._named(sentence, found)
        if behind and (named is None or named.start < equals) and not (behind[0] not in found and found[-1] in behind):
            return behind[0]
        return named or _behind_verb(sentence, found) or found[-1]

    def _named(self, sentence: str, found: Sequence[Number]) -> Number | None:
        """Returns the first number behind the name of what is asked for and a verb of being."""
        begin = re.search(rf"\b{re.escape(self._head)}\b", sentence, re.IGNORECASE) if self._head else None
        behind = [number for number in found if begin and number.start > begin.end()]
        return next((n for n in behind if _BEING.search(sentence[max(0, n.start - 40) : n.start])), None)

    def _counts(self, behind: str) -> bool:
        return any(token.startswith(self._counted) for token in tokens(behind)[:3])

    def _fitting(self, sentence: str, found: list[Number]) -> list[Number]:
        """Narrows numbers down to the kind asked for, not the question's, and not what others are compared with."""
        for fits in (
            lambda n: not self._year or (n.value.denominator == 1 and 1000 <= n.value < 3000),
            lambda n: not self._share or n.text.endswith("%"),
            lambda n: not self.repeats(n),
            lambda n: not self._counted or self._counts(sentence[n.end : n.end + 40]),
            lambda n: not _QUALIFIES.search(sentence[max(0, n.start - 20) : n.start]),
        ):
            found = [number for number in found if fits(number)] or found
        return found


def _asking(question: str) -> str:
    """Returns the sentence of a question that asks."""
    written = sentences(question)
    return next((s for s in reversed(written) if "?" in s), written[-1] if written else "")


def plans(sentence: str) -> bool:
    """Whether a sentence says what will be done."""
    return _PLANS.match(sentence) is not None


def content(sentence: str) -> set[str]:
    """Returns the words of a sentence that carry its meaning."""
    return {token for token in tokens(sentence) if len(token) > 2 and token.isalpha() and token not in _STOP}


def _behind_verb(sentence: str, found: Iterable[Number]) -> Number | None:
    """Returns the last number that directly follows a verb of being, else one that follows another verb."""
    numbers = list(found)
    for verb in (_BEING, _VERB):
        behind = [number for number in numbers if verb.search(sentence[max(0, number.start - 40) : number.start])]
        if behind:
            return behind[-1]
    return None
