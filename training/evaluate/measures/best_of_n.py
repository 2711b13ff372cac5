"""Does the PRM pick the right chain? Over questions of which several chains with a known verdict are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from atomthink_plugin.api import Aggregate
from atomthink_plugin.searches.aggregates import AGGREGATES
from atomthink_plugin.training.evaluate.measures.resampling import Bootstrap, Estimate, share
from atomthink_plugin.training.evaluate.scored import Scored


@dataclass(frozen=True, slots=True)
class BestOfN:
    """Shares of questions answered rightly; counts are questions.

    Attributes:
        chains: Chains per question, on average.
        mean: By a chain picked blindly.
        oracle: By the best chain there is.
        picked: By the chain with the best aggregate of its scores; equal ones share the pick.
        gain: Picked less mean.
    """

    chains: float
    mean: Estimate
    oracle: Estimate
    picked: Mapping[Aggregate, Estimate]
    gain: Mapping[Aggregate, Estimate]


def best_of_n(chains: Sequence[Scored], bootstrap: Bootstrap) -> BestOfN | None:
    """Returns the measures, None where no question has several chains; the bootstrap is of the same chains."""
    asked: dict[str, list[int]] = {}
    for index, chain in enumerate(chains):
        if chain.item.right is not None:
            asked.setdefault(chain.item.question, []).append(index)
    groups = [indices for indices in asked.values() if len(indices) > 1]
    if not groups:
        return None
    columns = ("questions", "blind", "oracle", *AGGREGATES)
    rows = np.zeros((len(chains), len(columns)))
    for indices in groups:
        group = [chains[index] for index in indices]
        right = np.array([chain.item.right for chain in group], dtype=float)
        picked = [_picked(group, right, aggregate) for aggregate in AGGREGATES]
        rows[indices[0]] = 1.0, right.mean(), right.max(), *picked  # a question's chains are drawn together
    place = {name: columns.index(name) for name in columns}

    def of(name: str, less: str | None = None) -> Estimate:
        values = rows if less is None else rows - rows[:, [place[less]]] * (np.arange(len(columns)) == place[name])
        return bootstrap.estimate(values, lambda sums: share(sums[..., place[name]], sums[..., 0]), len(groups))

    return BestOfN(
        chains=sum(map(len, groups)) / len(groups),
        mean=of("blind"),
        oracle=of("oracle"),
        picked={name: of(name) for name in AGGREGATES},
        gain={name: of(name, less="blind") for name in AGGREGATES},
    )


def _picked(group: Sequence[Scored], right: np.ndarray, aggregate: Aggregate) -> float:
    values = np.array([AGGREGATES[aggregate](chain.scores) for chain in group])
    return float(right[values == values.max()].mean())
