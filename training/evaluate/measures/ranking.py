"""Do right steps score higher than wrong ones? The area under the ROC curve, which needs no threshold.

Pooled it is the chance that a right step of the whole set scores higher than a wrong one, a tie counting half. Within
questions it is the mean of that chance over questions with steps of both kinds: what a search feels, which never
compares steps of different questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atomthink_plugin.training.evaluate.measures.resampling import Bootstrap, Estimate, Floats, interval, share
from atomthink_plugin.training.evaluate.scored import Scored


@dataclass(frozen=True, slots=True)
class Ranking:
    """Areas under the ROC curve.

    Attributes:
        pooled: Over all labelled steps, which it counts.
        within: Mean over the questions that have both right and wrong steps, which it counts.
    """

    pooled: Estimate
    within: Estimate


def ranking(chains: Sequence[Scored], bootstrap: Bootstrap) -> Ranking:
    """Returns the areas; the bootstrap is of the same chains."""
    judged = [(index, score, label) for index, chain in enumerate(chains) for score, label in chain.judged()]
    owners = np.array([owner for owner, _, _ in judged], dtype=np.int64)
    scores = np.array([score for _, score, _ in judged])
    labels = np.array([label for _, _, label in judged], dtype=bool)
    _, levels = np.unique(scores, return_inverse=True)
    once = np.ones(len(judged))
    draws = np.array([_area(levels, labels, weights[owners]) for weights in bootstrap.weights()])
    return Ranking(
        pooled=interval(_area(levels, labels, once), draws, len(judged)),
        within=_within(chains, bootstrap),
    )


def area(scores: Sequence[float], labels: Sequence[bool]) -> float:
    """Returns the area under the ROC curve, NaN where all labels are the same."""
    _, levels = np.unique(np.array(scores), return_inverse=True)
    return _area(levels, np.array(labels, dtype=bool), np.ones(len(labels)))


def _area(levels: NDArray[np.int64], labels: NDArray[np.bool_], weights: Floats) -> float:
    """The area from each step's level, the rank of its score among the distinct ones, and its weight."""
    if not levels.size:
        return float("nan")
    right = np.bincount(levels, weights * labels)
    wrong = np.bincount(levels, weights * ~labels)
    below = np.cumsum(wrong) - wrong
    return float(share((right * (below + wrong / 2)).sum(), right.sum() * wrong.sum()))


def _within(chains: Sequence[Scored], bootstrap: Bootstrap) -> Estimate:
    asked: dict[str, list[int]] = {}
    for index, chain in enumerate(chains):
        asked.setdefault(chain.item.question, []).append(index)
    rows = np.zeros((len(chains), 2))
    for indices in asked.values():
        pairs = [pair for index in indices for pair in chains[index].judged()]
        value = area([score for score, _ in pairs], [label for _, label in pairs])
        if not np.isnan(value):
            rows[indices[0]] = value, 1.0  # a question's chains are drawn together: one of them stands for all
    return bootstrap.estimate(rows, lambda sums: share(sums[..., 0], sums[..., 1]), int(rows[:, 1].sum()))
