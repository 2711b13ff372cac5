"""What a teacher's steps have to pass: each adds something, they are numbered without a gap, and one concludes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from atomthink_plugin.answers import final_answer
from atomthink_plugin.formats.steps import body, check

Stage = Literal["input", "unfinished", "server", "teacher", "steps", "format", "answer", "check"]
"""Where a question was lost: its record, the run that ended before it, the server, replies that cannot be used, no
progress, the format, the correctness by the answer, the correctness by the teacher's checks."""

STAGES: Final[tuple[Stage, ...]] = ("input", "unfinished", "server", "teacher", "steps", "format", "answer", "check")

KNOWN: Final = 0.95
"""Share of a step's runs of three words that may stand in earlier steps: more is those again, put together anew."""

_FEW: Final = 8  # words of a step below which runs of three say little

_NUMBER: Final = re.compile(r"[\s#>*_-]*step\s*(\d+)\b", re.IGNORECASE)
_GAP: Final = re.compile(r"\n\s*\n")


@dataclass(eq=False)
class FaultError(Exception):
    """Why a try gave no chain.

    Attributes:
        stage: What it did not pass.
        reason: In a few words that many questions share.
        detail: What is special to this one.
    """

    stage: Stage
    reason: str
    detail: str = ""


def tidy(step: str) -> str:
    """Returns a step without its number and without blank lines."""
    return _GAP.sub("\n", body(step)).strip()


def labelled(steps: Sequence[str]) -> list[str]:
    """Returns steps with their numbers."""
    return [f"Step {number}: {step}" for number, step in enumerate(steps, start=1)]


def concluding(answer: str) -> str:
    """Returns the last step."""
    return f"To sum up, the final answer is: {' '.join(answer.split())}."


def no_progress(step: str, earlier: Sequence[str]) -> str | None:
    """Returns why a step brings a chain no further, None if it does.

    Args:
        step: The candidate.
        earlier: All steps before it.
    """
    reason = check(step, earlier)
    if reason is not None:
        return reason
    words = step.casefold().split()
    runs = set(zip(words, words[1:], words[2:], strict=False))
    told = [one.casefold().split() for one in earlier]
    known = {run for one in told for run in zip(one, one[1:], one[2:], strict=False)}
    return "adds nothing" if len(words) >= _FEW and len(runs & known) > KNOWN * len(runs) else None


def numbers(steps: Sequence[str]) -> list[int | None]:
    """Returns the number each step is labelled with, None where it has no label."""
    found = (_NUMBER.match(step) for step in steps)
    return [int(match[1]) if match else None for match in found]


def require_format(steps: Sequence[str]) -> str:
    """Returns the final answer of a chain that has the form of atomic training data.

    Raises:
        FaultError: It is not well formed, or a direct answer: its first step is its last.
    """
    answer = _concluded(steps)
    if len(steps) == 1:
        raise FaultError("format", "concludes without a step before", steps[0])
    return answer


def well_formed(steps: Sequence[str]) -> bool:
    """Returns whether the steps are numbered from 1 to n and exactly the last states a final answer."""
    try:
        _concluded(steps)
    except FaultError:
        return False
    return True


def _concluded(steps: Sequence[str]) -> str:
    if numbers(steps) != list(range(1, len(steps) + 1)):
        raise FaultError("format", "steps are not numbered 1 to n", str(numbers(steps)))
    answers = [final_answer(step) for step in steps]
    if answers[-1] is None:
        raise FaultError("format", "the last step states no final answer", steps[-1])
    if any(answer is not None for answer in answers[:-1]):
        raise FaultError("format", "a step before the last states a final answer")
    return answers[-1]
