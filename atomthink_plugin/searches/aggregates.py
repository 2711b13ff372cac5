"""How step scores become a path's value (paper, section 5)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from atomthink_plugin.api import Aggregate

AGGREGATES: Final[Mapping[Aggregate, Callable[[Sequence[float]], float]]] = {
    "last": lambda scores: scores[-1],
    "min": min,
    "mean": lambda scores: math.fsum(scores) / len(scores),
    "prod": math.prod,
}
"""Last action, worst action, average, product; each takes at least one score."""
