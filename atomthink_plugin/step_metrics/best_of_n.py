"""What selection by a critic reaches on the solutions of a labelled set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from atomthink_plugin.api import Aggregate
from atomthink_plugin.searches.parts.aggregates import AGGREGATES
from atomthink_plugin.step_metrics.bootstrap import Bootstrap, Floats, MetricValue, metric_value, ratio
from atomthink_plugin.step_metrics.groups import by_question
from atomthink_plugin.step_metrics.judged_steps import JudgedSteps


@dataclass(frozen=True, slots=True)
class BestOfN:
    """Accuracy when the critic's scores select one solution of each question; counts are questions.

    Attributes:
        chains: Mean number of solutions per question.
        mean: Accuracy of a random solution; `oracle` is that of the best one.
        picked: Accuracy of the solution with the highest aggregate of its scores; tied solutions share the pick.
        gain: `picked` minus `mean`.
    """

    chains: float
    mean: MetricValue
    oracle: MetricValue
    picked: Mapping[Aggregate, MetricValue]
    gain: Mapping[Aggregate, MetricValue]


def best_of_n(solutions: Sequence[JudgedSteps], bootstrap: Bootstrap) -> BestOfN | None:
    """Returns the accuracy of selection, None if no question has several scored solutions with a known verdict."""
    groups = [found for indices in by_question(solutions) if len(found := _usable(solutions, indices)) > 1]
    if not groups:
        return None
    rows = np.zeros((len(solutions), 3 + 2 * len(AGGREGATES)))  # questions, random, oracle; picked, gain by aggregate
    for indices in groups:
        group = [solutions[index] for index in indices]
        right = np.array([solution.truth.right for solution in group], dtype=float)
        picked = np.array([_picked(group, right, aggregate) for aggregate in AGGREGATES])
        rows[indices[0]] = 1.0, right.mean(), right.max(), *picked, *(picked - right.mean())
    questions, *columns = bootstrap.sums(rows).T
    mean, oracle, *rest = (metric_value(ratio(column, questions), len(groups)) for column in columns)
    return BestOfN(
        chains=sum(map(len, groups)) / len(groups),
        mean=mean,
        oracle=oracle,
        picked=dict(zip(AGGREGATES, rest, strict=False)),
        gain=dict(zip(AGGREGATES, rest[len(AGGREGATES) :], strict=True)),
    )


def _usable(solutions: Sequence[JudgedSteps], indices: Sequence[int]) -> list[int]:
    return [at for at in indices if solutions[at].truth.right is not None and solutions[at].scores is not None]


def _picked(group: Sequence[JudgedSteps], right: Floats, aggregate: Aggregate) -> float:
    values = np.array([AGGREGATES[aggregate](solution.scores or ()) for solution in group])
    return float(right[values == values.max()].mean())
