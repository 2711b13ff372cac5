"""The text of a question, which distinguishes a response's answer from what the response repeats."""

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
_STOP_WORDS: Final = frozenset({
    "the", "and", "for", "are", "was", "were", "does", "did", "has", "have", "had", "how", "many", "much", "what",
    "which", "who", "whose", "when", "where", "there", "this", "that", "these", "those", "with", "from", "into",
    "its", "their", "they", "them", "you", "your", "our", "his", "her", "not", "can", "will", "would", "one",
})  # fmt: skip
_HEAD_NOUN: Final = re.compile(
    r"\b(?:what(?: is|'s| was| were| are)|find|calculate|determine) the ([\w ]{1,60}?)"
    r"(?= (?:of|in|between|for|on|from|that|by|to|at)\b|[?.:,]|$)",
    re.IGNORECASE,
)
_YEAR: Final = re.compile(r"\b(?:which|what|in which|in what) years?\b", re.IGNORECASE)
_COUNTED: Final = re.compile(r"\bhow many (\w{2,})", re.IGNORECASE)
_PLAN: Final = re.compile(
    r"(?:first|next|then|let's|let us|now|we (?:need|can|have to|must)|"
    r"to (?:find|determine|calculate|compute|answer|solve|get))\b",
    re.IGNORECASE,
)
_PERCENTAGE: Final = re.compile(r"\bwhat (?:is the )?percent(?:age)?\b", re.IGNORECASE)
_BLANK: Final = re.compile(r"\(_\)|_{2,}|\(\s*\)|（\s*）")


class QuestionText:
    """A question's numbers, words and sentences, what it asks for, and the words after its blank.

    Attributes:
        asking: The sentence that asks.
    """

    def __init__(self, question: str) -> None:
        self._numbers = {number.value for number in numbers(question)}
        self._number_words = {number.value for number in number_words(question)}
        self.asking = asking = _asking_sentence(question)
        self._words = content_words(asking)
        head = _HEAD_NOUN.search(asking)
        self._head = head[1].split()[-1].lower() if head and head[1].split() else ""
        counted = _COUNTED.search(asking)
        self._counted = counted[1].lower().rstrip("s") if counted else ""
        self._asks_year = _YEAR.search(asking) is not None
        self._asks_percentage = _PERCENTAGE.search(asking) is not None
        self._sentences = {" ".join(tokens(sentence)) for sentence in sentences(question)}
        blank = _BLANK.search(question)
        self._after_blank = tokens(question[blank.end() :])[:2] if blank else []
        self._counted_things = {(n.value, *tokens(question[n.end : n.end + 60])[:1]) for n in numbers(question)}

    def new_sentences(self, response: str) -> list[str]:
        """Returns the sentences of a response that are not the question's own."""
        return [s for s in sentences(response) if " ".join(tokens(s)) not in self._sentences]

    def overlap(self, sentence: str) -> float:
        """Returns the share of the question's content words that are in a sentence."""
        return len(self._words & content_words(sentence)) / max(1, len(self._words))

    def restatements(self, candidates: Sequence[str]) -> list[str]:
        """Returns the sentences with half of the question's words or its head noun, the closest ones first."""
        ranks = [
            (not is_plan(sentence), self._head in tokens(sentence), self.overlap(sentence), -index, sentence)
            for index, sentence in enumerate(candidates)
        ]
        return [sentence for _, head, share, _, sentence in sorted(ranks, reverse=True) if head or share >= 0.5]

    def number_in_blank(self, sentence: str, words: int) -> Number | None:
        """Returns the number in the place of the question's blank: the same next `words` words follow it."""
        for number in numbers(sentence) or number_words(sentence):
            after = tokens(sentence[number.end : number.end + 60])[:words]
            if after and after == self._after_blank[:words] and (number.value, after[0]) not in self._counted_things:
                return number
        return None

    def repeats(self, number: Number) -> bool:
        """Returns whether a number is one of the question's own."""
        return number.value in (self._number_words if number.text.isalpha() else self._numbers)

    def answering_number(self, sentence: str) -> Number | None:
        """Returns the number that a sentence arrives at: a new one, after an equals sign or a verb."""
        found = numbers(sentence)
        if all(number.value in self._numbers for number in found):
            found = sorted([*found, *number_words(sentence)], key=lambda number: number.start)
        if not found:
            return None
        equals = sentence.rfind("=")
        results = [number for number in found if number.start > equals >= 0]
        found = self._fitting(sentence, found)
        named = self._number_of_head(sentence, found)
        if (
            results
            and (named is None or named.start < equals)
            and not (results[0] not in found and found[-1] in results)
        ):
            return results[0]
        return named or _number_after_verb(sentence, found) or found[-1]

    def _number_of_head(self, sentence: str, found: Sequence[Number]) -> Number | None:
        """Returns the first number after the question's head noun that follows a verb of being."""
        begin = re.search(rf"\b{re.escape(self._head)}\b", sentence, re.IGNORECASE) if self._head else None
        after = [number for number in found if begin and number.start > begin.end()]
        return next((n for n in after if _BEING.search(sentence[max(0, n.start - 40) : n.start])), None)

    def _is_counted(self, after: str) -> bool:
        return any(token.startswith(self._counted) for token in tokens(after)[:3])

    def _fitting(self, sentence: str, found: list[Number]) -> list[Number]:
        """Keeps the numbers of the kind asked for, then new ones, then those that are no bound of a comparison.

        A condition that no number meets is skipped.
        """
        for fits in (
            lambda n: not self._asks_year or (n.value.denominator == 1 and 1000 <= n.value < 3000),
            lambda n: not self._asks_percentage or n.text.endswith("%"),
            lambda n: not self.repeats(n),
            lambda n: not self._counted or self._is_counted(sentence[n.end : n.end + 40]),
            lambda n: not _QUALIFIES.search(sentence[max(0, n.start - 20) : n.start]),
        ):
            found = [number for number in found if fits(number)] or found
        return found


def _asking_sentence(question: str) -> str:
    written = sentences(question)
    return next((s for s in reversed(written) if "?" in s), written[-1] if written else "")


def is_plan(sentence: str) -> bool:
    """Returns whether a sentence announces what will be done."""
    return _PLAN.match(sentence) is not None


def content_words(sentence: str) -> set[str]:
    """Returns the words of a sentence that are no stop words."""
    return {token for token in tokens(sentence) if len(token) > 2 and token.isalpha() and token not in _STOP_WORDS}


def _number_after_verb(sentence: str, found: Iterable[Number]) -> Number | None:
    """Returns the last number directly after a verb of being, or else after another verb."""
    candidates = list(found)
    for verb in (_BEING, _VERB):
        after = [number for number in candidates if verb.search(sentence[max(0, number.start - 40) : number.start])]
        if after:
            return after[-1]
    return None
