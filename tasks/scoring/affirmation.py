"""What a response that says neither `yes` nor `no` answers to a yes-or-no question: it repeats it or denies it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from atomthink_plugin.tasks.scoring.latex import tokens
from atomthink_plugin.tasks.scoring.question_text import QuestionText, content

_DENIES: Final = frozenset(
    [
        "not",
        "no",
        "never",
        "false",
        "untrue",
        "incorrect",
        "neither",
        "nor",
        "isn't",
        "aren't",
        "doesn't",
        "don't",
        "wasn't",
        "cannot",
    ]
)
_MORE: Final = frozenset(
    [
        "more",
        "greater",
        "higher",
        "larger",
        "bigger",
        "longer",
        "taller",
        "wider",
        "older",
        "above",
        "exceeds",
        "exceed",
    ]
)
_LESS: Final = frozenset(["less", "fewer", "lower", "smaller", "shorter", "narrower", "younger", "below"])
_SAME: Final = frozenset(["equal", "same", "equals"])


def affirms(asked: QuestionText, said: Sequence[str]) -> bool | None:
    """Returns whether a response affirms what is asked, None if it does not come to it."""
    for sentence in asked.restated(said):
        if asked.overlap(sentence) >= 0.6 and "if" not in tokens(sentence) and not sentence.endswith("?"):
            return _agrees(asked.asking, sentence)
    return None


def _agrees(question: str, sentence: str) -> bool:
    asked, said = tokens(question), tokens(sentence)
    denied = bool(_DENIES & set(said)) != bool(_DENIES & set(asked))
    for up, down in ((_MORE, _LESS), (_LESS, _MORE)):
        if up & set(asked) and not up & set(said):
            if down & set(said):
                return denied != _swapped(question, sentence)
            return False if _SAME & set(said) else not denied
    return denied == _swapped(question, sentence)


def _swapped(question: str, sentence: str) -> bool:
    """Whether what stands before `than` in the question stands behind it in the sentence."""
    left, _, right = question.partition(" than ")
    before, _, behind = sentence.partition(" than ")
    if not right or not behind:
        return False
    subject, other = content(left) - content(right), content(right) - content(left)
    straight = len(subject & content(before)) + len(other & content(behind))
    crossed = len(subject & content(behind)) + len(other & content(before))
    return crossed > straight
