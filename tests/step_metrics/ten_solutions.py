"""Ten labelled and scored solutions, small enough to count by hand; test_metrics.py has the results."""

from __future__ import annotations

from collections.abc import Sequence

from atomthink_plugin.step_metrics.judged_steps import JudgedSteps, StepLabels, Threshold

R, W = True, False
N = None

Label = bool | None


def scored(
    labels: Sequence[Label],
    scores: Sequence[float],
    question: str = "q",
    subset: str = "",
    right: bool | None = None,
    threshold: float = 0.5,
    kinds: Sequence[str | None] = (),
) -> JudgedSteps:
    """A solution judged by its scores."""
    truth = StepLabels(question, tuple(labels), subset, right, tuple(kinds))
    return JudgedSteps.from_scores(truth, scores, Threshold(threshold))


def judged(
    labels: Sequence[Label], verdicts: Sequence[Label], question: str = "q", subset: str = "", right: Label = None
) -> JudgedSteps:
    """A solution about which a critic gives verdicts alone."""
    return JudgedSteps(StepLabels(question, tuple(labels), subset, right), tuple(verdicts))


def at(solutions: Sequence[JudgedSteps], threshold: float, strict: bool = False) -> list[JudgedSteps]:
    """The same solutions judged with another threshold."""
    cut = Threshold(threshold, strict)
    return [JudgedSteps.from_scores(one.truth, one.scores or (), cut) for one in solutions]


TEN = [
    scored([R, R, R], [0.9, 0.8, 0.7], "q1", "a", True),  # no error, none seen
    scored([R, W, N], [0.9, 0.2, 0.6], "q1", "a", False),  # seen where it is
    scored([W, N], [0.6, 0.3], "q2", "a", False),  # seen a step late
    scored([R, R, W], [0.4, 0.9, 0.1], "q2", "a", False),  # seen two steps early
    scored([R, R], [0.8, 0.4], "q3", "a", True),  # one seen where none is
    scored([R, W, W], [0.7, 0.1, 0.9], "q4", "b", False),  # seen where it is
    scored([R, R], [0.6, 0.9], "q4", "b", True),  # no error, none seen
    scored([R, N, R], [0.9, 0.1, 0.8], "q5", "b"),  # nobody knows whether there is an error
    scored([W], [0.95], "q6", "b"),  # not seen
    scored([R, R, R, R], [0.5, 0.5, 0.5, 0.5], "q6", "b"),  # a half is right
]
