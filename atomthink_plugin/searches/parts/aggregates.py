"""How step scores become a path's value.

Source: AtomThink (arXiv 2411.11930), section 5; `log_odds` from DreamPRM (arXiv 2505.20241).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from atomthink_plugin.api import Aggregate

_CERTAIN: Final = 1e-6
"""Scores nearer to 0 or 1 count as this near, so that one of them does not decide alone."""


def log_odds(score: float) -> float:
    """Returns the logarithm of the odds of a score in [0, 1]."""
    clipped = min(max(score, _CERTAIN), 1 - _CERTAIN)
    return math.log(clipped / (1 - clipped))


def _mean_log_odds(scores: Sequence[float]) -> float:
    """Returns the mean log odds as a probability.

    This is what DreamPRM's code does. A sum, as papers also write it, would prefer the longer one of two good chains
    and the shorter one of two bad ones.
    """
    return 1 / (1 + math.exp(-math.fsum(map(log_odds, scores)) / len(scores)))


AGGREGATES: Final[Mapping[Aggregate, Callable[[Sequence[float]], float]]] = {
    "last": lambda scores: scores[-1],
    "min": min,
    "mean": lambda scores: math.fsum(scores) / len(scores),
    "prod": math.prod,
    "log_odds": _mean_log_odds,
}
"""Last action, worst action, average, product, average log odds; each takes at least one score."""
