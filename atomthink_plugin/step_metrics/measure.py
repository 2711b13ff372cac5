"""All metrics of a critic on a labelled set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from atomthink_plugin.step_metrics.best_of_n import BestOfN, best_of_n
from atomthink_plugin.step_metrics.best_threshold import GOALS, BestThreshold, Goal, best_threshold
from atomthink_plugin.step_metrics.bootstrap import Bootstrap, Values
from atomthink_plugin.step_metrics.error_kinds import error_recall
from atomthink_plugin.step_metrics.first_error import FirstErrorMetrics, first_error
from atomthink_plugin.step_metrics.judged_steps import JudgedSteps
from atomthink_plugin.step_metrics.prm_score import PrmScore, prm_score
from atomthink_plugin.step_metrics.ranking import Calibration, calibration, ranking
from atomthink_plugin.step_metrics.step_f1 import StepMetrics, step_metrics


@dataclass(frozen=True, slots=True)
class InvalidReplies:
    """Solutions, and labelled steps, about which the critic says nothing usable."""

    solutions: int
    steps: int


@dataclass(frozen=True, slots=True)
class Metrics:
    """All metrics of a critic on a labelled set.

    Attributes:
        invalid: What the critic says nothing about. It counts as neither right nor wrong.
        ranking: ROC AUC of the scores; None if the critic gives no scores.
        calibration: None if the critic gives no scores.
        oracle: The best threshold on this very set, and the F1 that it reaches, by what it is chosen by. Both are too
            optimistic to be reported as results. Empty if the critic gives no scores or there is no such F1.
        best_of_n: None if no question has several scored solutions with a known verdict.
        prm_score: PRMBench's metrics; None for other sets.
        error_recall: Share of wrong steps that are found, by kind of error; empty if the set names no kinds.
    """

    invalid: InvalidReplies
    first_error: FirstErrorMetrics
    steps: StepMetrics
    ranking: Values | None
    calibration: Calibration | None
    oracle: Mapping[Goal, BestThreshold]
    best_of_n: BestOfN | None
    prm_score: PrmScore | None
    error_recall: Values


def measure(solutions: Sequence[JudgedSteps], prmbench: bool = False, intervals: bool = True) -> Metrics:
    """Returns all metrics of at least one solution.

    Args:
        solutions: The solutions.
        prmbench: Whether they are PRMBench's.
        intervals: Whether to compute 95 % intervals.
    """
    bootstrap = Bootstrap([solution.truth.question for solution in solutions], resamples=None if intervals else 0)
    scored = any(solution.scores is not None for solution in solutions)
    silent = [solution for solution in solutions if not solution.valid]
    return Metrics(
        invalid=InvalidReplies(len(silent), sum(label is not None for one in silent for label in one.truth.labels)),
        first_error=first_error(solutions, bootstrap),
        steps=step_metrics(solutions, bootstrap),
        ranking=ranking(solutions, bootstrap) if scored else None,
        calibration=calibration(solutions, bootstrap) if scored else None,
        oracle={goal: best for goal in GOALS if (best := best_threshold(solutions, goal)) is not None},
        best_of_n=best_of_n(solutions, bootstrap),
        prm_score=prm_score(solutions, bootstrap) if prmbench else None,
        error_recall=error_recall(solutions, bootstrap),
    )
