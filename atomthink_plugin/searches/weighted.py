"""Weighted voting: each path's vote counts as much as its process reward (Li et al., arXiv 2206.02336)."""

from __future__ import annotations

import asyncio

from atomthink_plugin.api import Aggregate, Choice, Count, Mind, Search
from atomthink_plugin.searches.voting import elect


def weighted(n: Count = 8, aggregate: Aggregate = "mean") -> Search:
    """Returns the search over `n` QuickThink paths in which a vote weighs its path's aggregate."""

    async def search(mind: Mind) -> Choice:
        paths = await mind.rollouts(n)
        weights = await asyncio.gather(*(mind.value(path, aggregate) for path in paths))
        return await elect(mind, paths, weights)

    return search
