"""The threshold below which a step counts as wrong: given, or the best one on other data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.training.evaluate.labelled import LabelledSet
from atomthink_plugin.training.evaluate.measures.resampling import harmonic
from atomthink_plugin.training.evaluate.scored import Scored

DEFAULT: Final = 0.5

_ABOVE_ALL: Final = float(np.nextafter(1.0, 2.0))  # the least threshold that even a score of 1 is below


def best_threshold(chains: Sequence[Scored]) -> float:
    """Returns the threshold with the highest first-error F1 over all chains, of equally good ones the nearest to 0.5.

    A chain's first error is seen where it is for thresholds above its score and not above any earlier step's; a
    chain without one is seen as such for thresholds not above any step's score. Between two neighbours of all these
    numbers, the lower one excluded, every threshold is as good.

    Raises:
        AtomThinkError: The chains have no first-error F1.
    """
    known = [chain for chain in chains if chain.item.known]
    ranges = np.array([_seen_between(chain) for chain in known if chain.item.first_error is not None]).reshape(-1, 2)
    lowest = np.sort([min(chain.scores) for chain in known if chain.item.first_error is None])
    if not len(ranges) or not len(lowest):
        raise AtomThinkError(
            f"no threshold can be chosen on chains of which {len(ranges)} have a wrong step and {len(lowest)} have "
            "none: both kinds are needed"
        )
    possible = ranges[ranges[:, 0] < ranges[:, 1]]
    ends = np.unique(np.concatenate([possible.ravel(), lowest, [_ABOVE_ALL]]))
    above, upto = np.sort(possible[:, 0]), np.sort(possible[:, 1])
    wrong = (np.searchsorted(above, ends) - np.searchsorted(upto, ends)) / len(ranges)
    right = 1 - np.searchsorted(lowest, ends) / len(lowest)
    f1 = harmonic(wrong, right)
    starts = np.nextafter(np.concatenate([[0.0], ends[:-1]]), 2.0)
    nearest = np.clip(DEFAULT, starts, ends)[f1 >= f1.max() - 1e-12]
    return float(nearest[np.argmin(np.abs(nearest - DEFAULT))])


def refuse_shared(data: LabelledSet, other: LabelledSet) -> None:
    """Raises AtomThinkError if a threshold chosen on one set would be used on the same chains."""
    shared = {item.key() for item in data.chains} & {item.key() for item in other.chains}
    if shared:
        raise AtomThinkError(
            f"`--threshold-from`: {len(shared)} of its chains are also those that are measured; choose the "
            "threshold on other ones"
        )


def _seen_between(chain: Scored) -> tuple[float, float]:
    """Thresholds for which the first error is seen where it is: above the first number, up to the second."""
    error = chain.item.first_error or 0
    return chain.scores[error], min(chain.scores[:error], default=_ABOVE_ALL)
