"""The confidence of a policy in the tokens of a chain, which rewards a chain without a second model.

Source: Marco-o1 (arXiv 2411.14405): the confidence of a token is its probability over the sum of those of the five
likeliest tokens at its position, and the reward of a rollout is the average over its tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Final

from atomthink_plugin.api import AtomThinkError, Path

TOPS: Final = 5
"""Likeliest tokens that a sampled token is compared with."""


def token_confidence(position: Sequence[float]) -> float:
    """Returns the probability of a token over the sum of those of the likeliest tokens, in [0, 1].

    Args:
        position: An entry of `Step.tops`. It may have fewer than five of the likeliest tokens.

    Example:
        A sampled token that is among the likeliest, and one that is not:

        >>> token_confidence([-0.5, -0.5, -0.5]), round(token_confidence([-2.0, -0.5, -0.5]), 3)
        (0.5, 0.112)
    """
    own, *likeliest = position
    return min(1.0, 1 / math.fsum(math.exp(min(other - own, 700.0)) for other in likeliest[:TOPS]))


def chain_confidence(path: Path) -> float:
    """Returns the average confidence of all sampled tokens of a chain, in [0, 1].

    Steps that were given or written have no tokens. Without any sampled token it is 0.

    Raises:
        AtomThinkError: A sampled step has tokens without their alternatives.
    """
    positions = [position for step in path.steps for position in step.tops]
    if len(positions) < sum(len(step.token_ids) for step in path.steps) or any(len(one) < 2 for one in positions):
        raise AtomThinkError(
            f"this search rewards a chain by the log-probabilities of the {TOPS} likeliest tokens, which the policy "
            "does not give: pass `prm=CHECKPOINT` to reward chains by its scores, or use another policy"
        )
    return fmean(map(token_confidence, positions)) if positions else 0.0
