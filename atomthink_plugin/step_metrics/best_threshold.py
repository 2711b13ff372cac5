"""The threshold with the highest F1 on a set of scored solutions.

On the set that is evaluated, such a threshold is an oracle: the F1 that it reaches is higher than that of any threshold
chosen beforehand. On another set, it is how a threshold is chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np

from atomthink_plugin.step_metrics.bootstrap import Floats
from atomthink_plugin.step_metrics.judged_steps import JudgedSteps

Goal = Literal["first_error_f1", "macro_f1"]
"""What a threshold is chosen by: ProcessBench's F1 of first errors, or VisualProcessBench's macro-F1 of steps."""

GOALS: Final[tuple[Goal, ...]] = get_args(Goal)

_MIDDLE: Final = 0.5
_ABOVE_ALL: Final = float(np.nextafter(1.0, 2.0))  # the least threshold that a score of 1 is below


@dataclass(frozen=True, slots=True)
class BestThreshold:
    """A threshold, not strict, and the F1 that it reaches."""

    threshold: float
    f1: float


def best_threshold(solutions: Sequence[JudgedSteps], goal: Goal) -> BestThreshold | None:
    """Returns the threshold with the highest F1; of several, the nearest to 0.5.

    Returns:
        None if the scored solutions have no such F1, because one of the two kinds is missing.
    """
    scored = [solution for solution in solutions if solution.scores is not None]
    ends, f1 = _first_error_f1(scored) if goal == "first_error_f1" else _macro_f1(scored)
    if not len(ends):
        return None
    starts = np.nextafter(np.concatenate([[0.0], ends[:-1]]), 2.0)
    nearest = np.clip(_MIDDLE, starts, ends)[f1 >= f1.max() - 1e-12]
    return BestThreshold(float(nearest[np.argmin(np.abs(nearest - _MIDDLE))]), float(f1.max()))


def _first_error_f1(solutions: Sequence[JudgedSteps]) -> tuple[Floats, Floats]:
    """Returns F1 between each two neighbouring numbers, the upper one included; the upper numbers come first.

    The first wrong step is found by thresholds above its score and up to the lowest score of an earlier step. A chain
    without a wrong step is recognised by thresholds up to its lowest score.
    """
    known = [(one.scores or (), one.truth.first_error) for one in solutions if one.truth.first_error_known]
    ranges = [(scores[at], min(scores[:at], default=_ABOVE_ALL)) for scores, at in known if at is not None]
    lowest = np.sort([min(scores) for scores, at in known if at is None])
    if not ranges or not len(lowest):
        return np.empty(0), np.empty(0)
    possible = np.array([(low, high) for low, high in ranges if low < high]).reshape(-1, 2)
    ends = np.unique(np.concatenate([possible.ravel(), lowest, [_ABOVE_ALL]]))
    above, upto = np.sort(possible[:, 0]), np.sort(possible[:, 1])
    wrong = (np.searchsorted(above, ends) - np.searchsorted(upto, ends)) / len(ranges)
    right = 1 - np.searchsorted(lowest, ends) / len(lowest)
    return ends, 2 * wrong * right / np.where(wrong + right == 0, 1, wrong + right)


def _macro_f1(solutions: Sequence[JudgedSteps]) -> tuple[Floats, Floats]:
    """Returns macro-F1 of steps between each two neighbouring scores, the upper one included; see above."""
    pairs = [pair for solution in solutions for pair in solution.scored_labels()]
    right, wrong = (np.sort([score for score, label in pairs if label is kind]) for kind in (True, False))
    if not len(right) or not len(wrong):
        return np.empty(0), np.empty(0)
    ends = np.unique(np.concatenate([right, wrong, [_ABOVE_ALL]]))
    missed, found = np.searchsorted(right, ends), np.searchsorted(wrong, ends)  # right and wrong steps judged wrong
    f1_right = 2 * (len(right) - missed) / (2 * len(right) - missed + len(wrong) - found)
    f1_wrong = 2 * found / (len(wrong) + missed + found)
    return ends, (f1_right + f1_wrong) / 2
