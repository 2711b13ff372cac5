"""Filters for the steps and chains of a teacher, and the stages at which a question can be rejected."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, get_args

from atomthink_plugin.answers import final_answer
from atomthink_plugin.formats.steps import body, check

Stage = Literal["input", "unfinished", "server", "teacher", "steps", "format", "answer", "check"]
"""Where a question was rejected: an unusable record, the end of the run, no reply from the server, unusable replies,
no progress between steps, the format of the chain, its final answer, the teacher's checks."""

STAGES: Final[tuple[Stage, ...]] = get_args(Stage)

MAX_KNOWN_TRIGRAMS: Final = 0.95
"""Share of a step's word trigrams that may occur in earlier steps."""

_MIN_WORDS: Final = 8  # words of a step for which trigrams are compared

_NUMBER: Final = re.compile(r"[\s#>*_-]*step\s*(\d+)\b", re.IGNORECASE)
_BLANK_LINE: Final = re.compile(r"\n\s*\n")


@dataclass(eq=False)
class AttemptError(Exception):
    """An attempt did not give a chain.

    Attributes:
        stage: The stage that it did not pass.
        reason: A short reason that many questions share.
        detail: Details of this attempt.
    """

    stage: Stage
    reason: str
    detail: str = ""

    def reject(self, where: str, record: Any, faults: Sequence[Mapping[str, str]] = ()) -> dict[str, Any]:
        """Returns the line of `rejects.jsonl` for a question or step. `where` is its id or the place of its record."""
        return {"where": where, **asdict(self), "record": record, "faults": faults}


class RefusedAttemptError(AttemptError):
    """The server refuses the request. Another attempt would be refused too."""


def without_label(step: str) -> str:
    """Returns a step without its number and without blank lines."""
    return _BLANK_LINE.sub("\n", body(step)).strip()


def numbered(steps: Sequence[str]) -> list[str]:
    """Returns steps with their numbers."""
    return [f"Step {number}: {step}" for number, step in enumerate(steps, start=1)]


def conclusion(answer: str) -> str:
    """Returns the text of the last step."""
    return f"To sum up, the final answer is: {' '.join(answer.split())}."


def no_progress(step: str, earlier: Sequence[str]) -> str | None:
    """Returns why a step adds nothing to the earlier ones, None if it adds something."""
    reason = check(step, earlier)
    if reason is not None:
        return reason
    known = set().union(*map(_trigrams, earlier))
    own = _trigrams(step)
    repeats = len(own & known) > MAX_KNOWN_TRIGRAMS * len(own)
    return "adds nothing" if repeats and len(step.split()) >= _MIN_WORDS else None


def _trigrams(step: str) -> set[tuple[str, str, str]]:
    words = step.casefold().split()
    return set(zip(words, words[1:], words[2:], strict=False))


def step_numbers(steps: Sequence[str]) -> list[int | None]:
    """Returns the number in the label of each step, None for steps without a label."""
    labels = (_NUMBER.match(step) for step in steps)
    return [int(label[1]) if label else None for label in labels]


def require_format(steps: Sequence[str]) -> str:
    """Returns the final answer of a well-formed chain of at least two steps.

    Raises:
        AttemptError: The chain is not well formed, or is only a direct answer.
    """
    answer = _stated_answer(steps)
    if len(steps) == 1:
        raise AttemptError("format", "concludes in the first step", steps[0])
    return answer


def well_formed(steps: Sequence[str]) -> bool:
    """Returns whether the steps are numbered from 1 to n and exactly the last one states a final answer."""
    try:
        _stated_answer(steps)
    except AttemptError:
        return False
    return True


def _stated_answer(steps: Sequence[str]) -> str:
    if step_numbers(steps) != list(range(1, len(steps) + 1)):
        raise AttemptError("format", "steps are not numbered 1 to n", str(step_numbers(steps)))
    *early, answer = map(final_answer, steps)
    if answer is None:
        raise AttemptError("format", "the last step states no final answer", steps[-1])
    if any(stated is not None for stated in early):
        raise AttemptError("format", "a step before the last states a final answer")
    return answer
