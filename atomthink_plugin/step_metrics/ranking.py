"""How well scores rank steps, and how far they are from probabilities."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from atomthink_plugin.step_metrics.bootstrap import Bootstrap, Draws, Floats, MetricValue, Values, metric_value, ratio
from atomthink_plugin.step_metrics.groups import by_question
from atomthink_plugin.step_metrics.judged_steps import JudgedSteps

BINS: Final = 10


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """The steps with a score from `low` to `high`: their mean score, and the share of them that is right."""

    low: float
    high: float
    score: float | None
    right: MetricValue


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far scores are from probabilities; counts are steps.

    Expected calibration error over bins of equal width, Brier score, and the reliability table.
    """

    error: MetricValue
    brier: MetricValue
    bins: tuple[CalibrationBin, ...]


def ranking(solutions: Sequence[JudgedSteps], bootstrap: Bootstrap) -> Values:
    """Returns how often a right step scores higher than a wrong one: the areas under the ROC curve.

    `pooled` is over all steps. `within` is the mean over the questions with both kinds of steps: a search compares only
    steps of one question.
    """
    steps = [solution.scored_labels() for solution in solutions]
    owners = np.repeat(np.arange(len(solutions)), [len(own) for own in steps])
    scores, labels = _columns(steps)
    pooled = _areas(scores, labels, (weights[owners] for weights in bootstrap.weights()))
    rows = np.zeros((len(solutions), 2))
    for indices in by_question(solutions):
        own, right = _columns([steps[index] for index in indices])
        (area,) = _areas(own, right, [np.ones(len(own))])
        if not np.isnan(area):
            rows[indices[0]] = area, 1.0  # a question's solutions are drawn together: the first stands for all
    sums = bootstrap.sums(rows)
    within = metric_value(ratio(sums[:, 0], sums[:, 1]), int(sums[0, 1]))
    return {"pooled": metric_value(pooled, len(labels)), "within": within}


def _columns(steps: Sequence[Sequence[tuple[float, bool]]]) -> tuple[Floats, NDArray[np.bool_]]:
    """Returns the scores and the labels of all steps of some solutions."""
    flat = [step for own in steps for step in own]
    return np.array([score for score, _ in flat]), np.array([label for _, label in flat], dtype=bool)


def _areas(scores: Floats, labels: NDArray[np.bool_], weights: Iterable[Floats]) -> Draws:
    """Returns the area under the ROC curve for each weighting of the steps, NaN where all labels are the same.

    The steps are sorted once. scikit-learn would sort them again for every resample.
    """
    if not len(scores):
        return np.array([np.nan for _ in weights])
    order = np.argsort(scores)
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))  # of equal scores
    right = labels[order]
    areas = []
    for one in weights:
        sorted_weights = one[order]
        rights, wrongs = (np.add.reduceat(sorted_weights * kind, starts) for kind in (right, ~right))
        below = np.cumsum(wrongs) - wrongs
        areas.append(ratio((rights * (below + wrongs / 2)).sum(), rights.sum() * wrongs.sum()))
    return np.array(areas)


def calibration(solutions: Sequence[JudgedSteps], bootstrap: Bootstrap) -> Calibration:
    """Returns the calibration of the labelled steps."""
    table = np.zeros((len(solutions), 3, BINS))  # steps, their scores, the right ones
    squares = np.zeros((len(solutions), 2))
    for row, square, solution in zip(table, squares, solutions, strict=True):
        for score, label in solution.scored_labels():
            row[:, min(int(score * BINS), BINS - 1)] += 1, score, label
            square += (score - label) ** 2, 1
    squared, count = bootstrap.sums(squares).T
    sums = bootstrap.sums(table.reshape(len(solutions), -1))
    steps, scores, right = np.moveaxis(sums.reshape(-1, 3, BINS), 1, 0)
    binned = table.sum(axis=0)
    bins = (
        CalibrationBin(
            low=index / BINS,
            high=(index + 1) / BINS,
            score=float(binned[1, index] / binned[0, index]) if binned[0, index] else None,
            right=metric_value(ratio(right[:, index], steps[:, index]), int(steps[0, index])),
        )
        for index in range(BINS)
    )
    return Calibration(
        error=metric_value(ratio(np.abs(scores - right).sum(axis=1), steps.sum(axis=1)), int(count[0])),
        brier=metric_value(ratio(squared, count), int(count[0])),
        bins=tuple(bins),
    )
