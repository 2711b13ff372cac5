"""How a critic classifies single steps, as VisualProcessBench measures it (arXiv 2503.10291).

A step about which the critic says nothing is in neither of the predicted classes: it lowers the recall of its own class
and the precision of none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atomthink_plugin.step_metrics.bootstrap import Bootstrap, Draws, Floats, MetricValue, Values, metric_value, ratio
from atomthink_plugin.step_metrics.groups import by_subset
from atomthink_plugin.step_metrics.judged_steps import JudgedSteps


@dataclass(frozen=True, slots=True)
class StepMetrics:
    """`macro_f1`, `f1_right`, `f1_wrong` and `accuracy` of single steps; counts are steps.

    Papers call three different numbers "overall". They differ by points where subsets differ in size and difficulty.

    Attributes:
        all: Over all labelled steps together: its `macro_f1` is VisualProcessBench's headline.
        weighted: Macro-F1 of the subsets, weighted by their labelled steps. It counts subsets.
        mean: Macro-F1 of the subsets, each with the same weight. It counts subsets.
        subsets: By subset.
    """

    all: Values
    weighted: MetricValue
    mean: MetricValue
    subsets: Mapping[str, Values]


@dataclass(frozen=True, slots=True)
class StepDraws:
    """F1 (0 where undefined) and number of right and of wrong steps, and the accuracy of all."""

    f1: Mapping[bool, Draws]
    steps: Mapping[bool, Draws]
    accuracy: Draws

    @property
    def count(self) -> int:
        """Number of labelled steps."""
        return int(self.total[0])

    @property
    def total(self) -> Draws:
        """Number of labelled steps, also of each resample."""
        return self.steps[True] + self.steps[False]

    def defined_f1(self, label: bool) -> Draws:
        """Returns the F1 of a class, NaN where it has no step."""
        return np.where(self.steps[label] == 0, np.nan, self.f1[label])

    @property
    def macro_f1(self) -> Draws:
        """The mean F1 of both classes, NaN where one has no step."""
        return (self.defined_f1(True) + self.defined_f1(False)) / 2


def step_metrics(solutions: Sequence[JudgedSteps], bootstrap: Bootstrap) -> StepMetrics:
    """Returns the metrics of single steps."""
    groups = by_subset(solutions)
    whole, *parts = step_draws(solutions, [np.ones(len(solutions), dtype=bool), *groups.values()], bootstrap)
    known = [part for part in parts if not np.isnan(part.macro_f1[0])]
    nothing = np.full(1, np.nan)
    steps = np.sum([part.total for part in known], axis=0)
    weighted = ratio(np.sum([part.macro_f1 * part.total for part in known], axis=0), steps) if known else nothing
    mean = np.mean([part.macro_f1 for part in known], axis=0) if known else nothing
    return StepMetrics(
        all=_values(whole),
        weighted=metric_value(weighted, len(known)),
        mean=metric_value(mean, len(known)),
        subsets={name: _values(part) for name, part in zip(groups, parts, strict=True)},
    )


def _values(draws: StepDraws) -> Values:
    found = {
        "macro_f1": draws.macro_f1,
        "f1_right": draws.defined_f1(True),
        "f1_wrong": draws.defined_f1(False),
        "accuracy": draws.accuracy,
    }
    return {name: metric_value(values, draws.count) for name, values in found.items()}


def step_draws(
    solutions: Sequence[JudgedSteps], groups: Sequence[NDArray[np.bool_]], bootstrap: Bootstrap
) -> list[StepDraws]:
    """Returns the metrics of the steps of each group of solutions, and of all resamples at once."""
    tables = np.array([_confusion(solution) for solution in solutions], dtype=np.float64)
    return [_draws(bootstrap.sums(tables * group[:, None])) for group in groups]


def _draws(cells: Floats) -> StepDraws:
    """Returns the metrics of the cells of confusion tables, see `_confusion`."""
    right_right, right_wrong, right_silent, wrong_wrong, wrong_right, wrong_silent = cells.T
    right = right_right + right_wrong + right_silent
    wrong = wrong_wrong + wrong_right + wrong_silent
    f1_right = ratio(2 * right_right, right + right_right + wrong_right)
    f1_wrong = ratio(2 * wrong_wrong, wrong + wrong_wrong + right_wrong)
    return StepDraws(
        f1={True: np.nan_to_num(f1_right), False: np.nan_to_num(f1_wrong)},
        steps={True: right, False: wrong},
        accuracy=ratio(right_right + wrong_wrong, right + wrong),
    )


def _confusion(solution: JudgedSteps) -> list[int]:
    """Returns how many right and wrong steps are judged as labelled, the other way, and not at all."""
    cells = [0] * 6
    for label, verdict in zip(solution.truth.labels, solution.verdicts, strict=True):
        if label is not None:
            cells[(0 if label else 3) + (2 if verdict is None else verdict != label)] += 1
    return cells
