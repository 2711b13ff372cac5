"""How a critic classifies single steps, as VisualProcessBench measures it (arXiv 2503.10291).

scikit-learn computes F1. A step about which the critic says nothing is in neither of the predicted classes: it lowers
the recall of its own class and the precision of none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_fscore_support

from atomthink_plugin.step_metrics.bootstrap import Bootstrap, Draws, MetricValue, Values, metric_value, ratio
from atomthink_plugin.step_metrics.groups import by_subset
from atomthink_plugin.step_metrics.judged_steps import JudgedSteps

_NEITHER: Final = -1
"""The predicted class of a step without a verdict."""


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
    """Returns the metrics of the steps of each group of solutions.

    scikit-learn is called once per resample, for all groups. Its samples are the cells of the groups' confusion
    tables, weighted by their steps. Its classes are the wrong and the right steps of each group.
    """
    tables = np.array([_confusion(solution) for solution in solutions], dtype=np.float64)
    sums = bootstrap.sums(np.concatenate([tables * group[:, None] for group in groups], axis=1))
    classes = np.arange(2 * len(groups)).reshape(-1, 2)  # wrong, right
    neither = np.full((len(groups), 1), _NEITHER)
    labels = classes[:, [1, 1, 1, 0, 0, 0]].ravel()
    predicted = np.hstack([classes[:, [1, 0]], neither, classes[:, [0, 1]], neither]).ravel()
    # A resample without a labelled step would have no weight, which scikit-learn refuses: one more cell, of no class.
    labels, predicted = np.append(labels, _NEITHER), np.append(predicted, _NEITHER)
    weights = np.pad(sums, ((0, 0), (0, 1)), constant_values=1)
    options = {"labels": classes.ravel(), "average": None, "zero_division": 0}
    found = [precision_recall_fscore_support(labels, predicted, sample_weight=one, **options)[2:] for one in weights]
    f1, steps = np.moveaxis(np.array(found), 0, -1).reshape(2, len(groups), 2, -1)
    right = sums.reshape(-1, len(groups), 6)[:, :, [0, 3]].sum(axis=2).T
    return [
        StepDraws(
            f1={False: f1[group, 0], True: f1[group, 1]},
            steps={False: steps[group, 0], True: steps[group, 1]},
            accuracy=ratio(right[group], steps[group].sum(axis=0)),
        )
        for group in range(len(groups))
    ]


def _confusion(solution: JudgedSteps) -> list[int]:
    """Returns the number of right and of wrong steps that are judged as labelled, the other way, and not at all."""
    cells = [0] * 6
    for label, verdict in zip(solution.truth.labels, solution.verdicts, strict=True):
        if label is not None:
            cells[(0 if label else 3) + (2 if verdict is None else verdict != label)] += 1
    return cells
