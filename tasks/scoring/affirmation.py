"""Affirmation: whether a response that says neither `yes` nor `no` repeats or denies a yes-or-no question."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from atomthink_plugin.tasks.scoring.latex import tokens
from atomthink_plugin.tasks.scoring.question_text import QuestionText, content_words

_NEGATIONS: Final = frozenset({
    "not", "no", "never", "false", "untrue", "incorrect", "neither", "nor", "isn't", "aren't", "doesn't", "don't",
    "wasn't", "cannot",
})  # fmt: skip
_MORE: Final = frozenset({
    "more", "greater", "higher", "larger", "bigger", "longer", "taller", "wider", "older", "above", "exceeds",
    "exceed",
})  # fmt: skip
_LESS: Final = frozenset(["less", "fewer", "lower", "smaller", "shorter", "narrower", "younger", "below"])
_EQUAL: Final = frozenset(["equal", "same", "equals"])


def affirms(question: QuestionText, sentences: Sequence[str]) -> bool | None:
    """Returns whether the sentences of a response affirm the question, None if none of them answers it."""
    for sentence in question.restatements(sentences):
        if question.overlap(sentence) >= 0.6 and "if" not in tokens(sentence) and not sentence.endswith("?"):
            return _agrees(question.asking, sentence)
    return None


def _agrees(question: str, sentence: str) -> bool:
    asked, answered = tokens(question), tokens(sentence)
    denied = bool(_NEGATIONS & set(answered)) != bool(_NEGATIONS & set(asked))
    for up, down in ((_MORE, _LESS), (_LESS, _MORE)):
        if up & set(asked) and not up & set(answered):
            if down & set(answered):
                return denied != _is_swapped(question, sentence)
            return False if _EQUAL & set(answered) else not denied
    return denied == _is_swapped(question, sentence)


def _is_swapped(question: str, sentence: str) -> bool:
    """Returns whether the two sides of the question's `than` have changed places in the sentence."""
    left, _, right = question.partition(" than ")
    before, _, after = sentence.partition(" than ")
    if not right or not after:
        return False
    subject = content_words(left) - content_words(right)
    other = content_words(right) - content_words(left)
    straight = len(subject & content_words(before)) + len(other & content_words(after))
    crossed = len(subject & content_words(after)) + len(other & content_words(before))
    return crossed > straight
