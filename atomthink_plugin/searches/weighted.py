"""Weighted voting: each path's vote counts as much as its process reward (Li et al., arXiv 2206.02336)."""

from __future__ import annotations

import asyncio

from atomthink_plugin.api import Aggregate, Choice, Count, Search, SearchTree
from atomthink_plugin.searches.voting import elect


def weighted(n: Count = 8, aggregate: Aggregate = "mean") -> Search:
    """Returns the search over `n` QuickThink paths in which a vote weighs its path's aggregate."""

    async def search(tree: SearchTree) -> Choice:
        paths = await tree.rollouts(n)
        weights = await asyncio.gather(*(tree.value(path, aggregate) for path in paths))
        return await elect(tree, paths, weights)

    return search
