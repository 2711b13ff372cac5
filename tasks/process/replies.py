r"""What a critic's reply says about the steps of a solution.

A reply counts as a whole or not at all: one entry too many shifts all others. Accepted are

- `{"Score": [1, 0, ...]}`: whether each step is right;
- `{"scores": [0.9, 0.1, ...]}`: scores from 0 to 1, with `"threshold"` (0.5) and `"strict"` (false) if they are given;
- `{"validity": [1.0, -0.5, ...]}`: from -1 to 1, right if above 0. PRMBench's two classes of redundant steps are judged
  by `"redundancy"`, if it is given, wrong if above 0, as in the benchmark's own evaluation;
- `\boxed{3}`: the index of the first wrong step from 0, -1 for none. Nothing is then known about later steps.

The last JSON object with one of these keys counts, without one the last box.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from atomthink_plugin.step_metrics.judged_steps import JudgedSteps, StepLabels, Threshold

REDUNDANT_CLASSES: Final = ("redundency", "circular")
"""PRMBench's classes of redundant steps, in its own spelling."""

_OPENING: Final = ("<think>", "<thinking>", "<analysis>", "◁think▷", "<|channel>")
"""Beginnings of a thought. The harness has removed complete thoughts, so what is left was cut off."""

_BOX: Final = re.compile(r"\\boxed\{([^}]*)\}")

VALIDITY: Final = Threshold(0.5, strict=True)
"""The threshold 0 of PRMBench's validity scores, which are mapped from [-1, 1] to [0, 1]."""


@dataclass(frozen=True, slots=True)
class CriticReply:
    """What a reply says.

    Attributes:
        verdicts: Whether each step is right, None where the reply says nothing.
        scores: The scores that the verdicts come from, if there are any.
        threshold: What makes verdicts of scores, None without scores.
        invalid: Why the reply cannot be used; empty if it can.
    """

    verdicts: tuple[bool | None, ...]
    scores: tuple[float, ...] | None = None
    threshold: Threshold | None = None
    invalid: str = ""

    def judged(self, truth: StepLabels) -> JudgedSteps:
        """Returns the verdicts beside the labels."""
        return JudgedSteps(truth, self.verdicts, self.scores)


class _UnusableError(ValueError):
    """A reply that cannot be used, and why."""


def read_reply(text: str, steps: int, subset: str = "") -> CriticReply:
    """Reads a reply.

    Args:
        text: The reply, without its thoughts.
        steps: The number of steps of the solution.
        subset: The part of the set that the solution belongs to.
    """
    try:
        return _read(text, steps, subset)
    except _UnusableError as error:
        return CriticReply((None,) * steps, invalid=str(error))


def _read(text: str, steps: int, subset: str) -> CriticReply:
    if not text.strip():
        raise _UnusableError("no reply")
    if any(mark in text for mark in _OPENING):
        raise _UnusableError("the thought does not end")
    found: dict[str, Any] = next(reversed(list(_objects(text))), {})
    if "Score" in found:
        return CriticReply(tuple(bool(one) for one in _numbers(found["Score"], steps, 0, 1, whole=True)))
    if "scores" in found:
        return _by_scores(_numbers(found["scores"], steps, 0, 1), _threshold(found))
    if "validity" in found:
        return _by_validity(found, steps, subset)
    return _up_to(_index(text, steps), steps)


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """Yields the JSON objects of a text that have one of the keys, outer ones only."""
    decoder, at = json.JSONDecoder(), 0
    while (at := text.find("{", at)) >= 0:
        try:
            found, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            at += 1
        else:
            if found.keys() & {"Score", "scores", "validity"}:
                yield found


def _numbers(given: Any, steps: int, low: float, high: float, whole: bool = False) -> tuple[float, ...]:
    if not isinstance(given, list) or not all(_is_number(one) for one in given):
        raise _UnusableError("no list of numbers")
    if len(given) != steps:
        raise _UnusableError(f"{len(given)} entries for {steps} steps")
    if any(not low <= one <= high or (whole and one not in (low, high)) for one in given):
        raise _UnusableError(f"an entry is not {'one of' if whole else 'from'} {low} {'or' if whole else 'to'} {high}")
    return tuple(float(one) for one in given)


def _is_number(given: Any) -> bool:
    return isinstance(given, int | float) and not isinstance(given, bool) and math.isfinite(given)


def _threshold(found: Mapping[str, Any]) -> Threshold:
    value, strict = found.get("threshold", Threshold().value), found.get("strict", False)
    if not _is_number(value) or not isinstance(strict, bool):
        raise _UnusableError("its threshold is no number")
    return Threshold(float(value), strict)


def _by_scores(scores: Sequence[float], threshold: Threshold) -> CriticReply:
    return CriticReply(tuple(map(threshold.is_right, scores)), tuple(scores), threshold)


def _by_validity(found: Mapping[str, Any], steps: int, subset: str) -> CriticReply:
    key, sign = ("redundancy", -1) if subset in REDUNDANT_CLASSES and "redundancy" in found else ("validity", 1)
    values = _numbers(found[key], steps, -1, 1)
    # A redundancy of 0 means right, a validity of 0 means wrong.
    threshold = Threshold(VALIDITY.value) if sign < 0 else VALIDITY
    return _by_scores([(1 + sign * value) / 2 for value in values], threshold)


def _index(text: str, steps: int) -> int:
    boxes = _BOX.findall(text)
    if not boxes:
        raise _UnusableError("neither a JSON object with scores nor a box")
    try:
        index = int(boxes[-1].strip())
    except ValueError:
        raise _UnusableError("no index in the box") from None
    if not -1 <= index < steps:
        raise _UnusableError(f"there is no step {index}")
    return index


def _up_to(index: int, steps: int) -> CriticReply:
    if index == -1:
        return CriticReply((True,) * steps)
    return CriticReply((*(True,) * index, False, *(None,) * (steps - index - 1)))


Vote = Callable[[Sequence[CriticReply]], CriticReply]


def vote_on_steps(replies: Sequence[CriticReply]) -> CriticReply:
    """Returns the majority's verdict on each step; a tie is wrong. Invalid replies do not vote.

    One reply is returned as it is.
    """
    valid = [reply for reply in replies if not reply.invalid]
    if len(replies) == 1 or not valid:
        return replies[0]
    columns = zip(*(reply.verdicts for reply in valid), strict=True)
    said = ([verdict for verdict in column if verdict is not None] for column in columns)
    return CriticReply(tuple(2 * sum(votes) > len(votes) if votes else None for votes in said))


def vote_on_first_error(replies: Sequence[CriticReply]) -> CriticReply:
    """Returns the reply about the first wrong step that occurs most often; of several, the one that came first.

    This is how ProcessBench votes. Invalid replies do not vote.
    """
    valid = [reply for reply in replies if not reply.invalid]
    return max(valid, key=lambda one: sum(other.verdicts == one.verdicts for other in valid), default=replies[0])
