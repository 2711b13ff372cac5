"""Whether a critic finds the first wrong step, as ProcessBench measures it (arXiv 2412.06559)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from atomthink_plugin.step_metrics.bootstrap import Bootstrap, Draws, Floats, MetricValue, Values, metric_value, ratio
from atomthink_plugin.step_metrics.groups import by_subset
from atomthink_plugin.step_metrics.judged_steps import JudgedSteps


@dataclass(frozen=True, slots=True)
class FirstErrorMetrics:
    """Metrics of the first wrong step.

    Attributes:
        all: Over all solutions, and `subsets` by subset, see `_first_error_f1`.
        mean: F1 averaged over the subsets that have one: ProcessBench's headline. It counts subsets.
        position: How far off the first step that is judged wrong is, see `_position`.
        unknown: How many solutions are left out because a step before the first wrong one has no label.
    """

    all: Values
    mean: MetricValue
    subsets: Mapping[str, Values]
    position: Values
    unknown: int


def first_error(solutions: Sequence[JudgedSteps], bootstrap: Bootstrap) -> FirstErrorMetrics:
    """Returns ProcessBench's metrics. Solutions whose first wrong step is not known are left out."""
    rows = np.array([_found(solution) for solution in solutions], dtype=np.float64)
    sums = {name: bootstrap.sums(rows * group[:, None]) for name, group in by_subset(solutions).items()}
    f1 = [draws for draws in map(_harmonic_mean, sums.values()) if not np.isnan(draws[0])]
    return FirstErrorMetrics(
        all=_first_error_f1(bootstrap.sums(rows)),
        mean=metric_value(np.mean(f1, axis=0) if f1 else np.full(1, np.nan), len(f1)),
        subsets={name: _first_error_f1(found) for name, found in sums.items()},
        position=_position(solutions, bootstrap),
        unknown=sum(not solution.truth.first_error_known for solution in solutions),
    )


def _found(solution: JudgedSteps) -> list[int]:
    """Returns 1 or 0 for: has a wrong step, the first one is found; has no wrong step, none is predicted."""
    if not solution.truth.first_error_known:
        return [0, 0, 0, 0]
    hit = int(solution.finds_first_error)
    return [0, 0, 1, hit] if solution.truth.first_error is None else [1, hit, 0, 0]


def _harmonic_mean(sums: Floats) -> Draws:
    """Returns F1: 0 where both accuracies are 0, NaN where one kind of solution is missing."""
    wrong, right = ratio(sums[:, 1], sums[:, 0]), ratio(sums[:, 3], sums[:, 2])
    return np.where(wrong + right == 0, 0.0, ratio(2 * wrong * right, wrong + right))


def _first_error_f1(sums: Floats) -> Values:
    """Returns the accuracy on solutions with a wrong step and without one, and their harmonic mean."""
    return {
        "f1": metric_value(_harmonic_mean(sums), int(sums[0, 0] + sums[0, 2])),
        "wrong": metric_value(ratio(sums[:, 1], sums[:, 0]), int(sums[0, 0])),
        "right": metric_value(ratio(sums[:, 3], sums[:, 2]), int(sums[0, 2])),
    }


def _position(solutions: Sequence[JudgedSteps], bootstrap: Bootstrap) -> Values:
    """Returns where the first step that is judged wrong is, for solutions with a wrong step.

    It is the first wrong step (`exact`), an earlier or later one (`early`, `late`) or there is none (`missed`). For
    the first three, `distance` is their mean distance in steps and `offset` the mean signed one, negative if early.
    """
    rows = np.zeros((len(solutions), 6))
    for row, solution in zip(rows, solutions, strict=True):
        error, judged = solution.truth.first_error, solution.first_judged_wrong
        if error is not None and solution.truth.first_error_known:
            off = 0 if judged is None else judged - error
            row[:] = judged == error, off < 0, off > 0, judged is None, abs(off), off
    sums = bootstrap.sums(rows)
    wrong, found = sums[:, :4].sum(axis=1), sums[:, :3].sum(axis=1)
    bottoms = {"exact": wrong, "early": wrong, "late": wrong, "missed": wrong, "distance": found, "offset": found}
    return {
        name: metric_value(ratio(sums[:, column], bottom), int(bottom[0]))
        for column, (name, bottom) in enumerate(bottoms.items())
    }
