"""Voting over whole chains in which a vote counts as much as the chain's process reward.

Source: Li et al., arXiv 2206.02336.
"""

from __future__ import annotations

import asyncio

from atomthink_plugin.api import Aggregate, Choice, Count, Search, SearchTree
from atomthink_plugin.searches.parts.voting import elect


def weighted(n: Count = 8, aggregate: Aggregate = "mean") -> Search:
    """As `majority`, but each vote is weighted by the aggregate of its chain's step scores.

    Args:
        n: Chains sampled.
        aggregate: How step scores become the weight of a chain: the `last` score, the `min`, the `mean`, the
            product (`prod`) or the mean of the log odds (`log_odds`).
    """

    async def search(tree: SearchTree) -> Choice:
        paths = await tree.rollouts(n)
        weights = await asyncio.gather(*(tree.value(path, aggregate) for path in paths))
        return await elect(tree, paths, weights)

    return search
