"""Majority voting, or self-consistency: the answer most paths reach (Wang et al., arXiv 2203.11171)."""

from __future__ import annotations

from atomthink_plugin.api import Choice, Count, Search, SearchTree
from atomthink_plugin.searches.voting import elect


def majority(n: Count = 8) -> Search:
    """Returns the search over `n` QuickThink paths in which each path has one vote."""

    async def search(tree: SearchTree) -> Choice:
        paths = await tree.rollouts(n)
        return await elect(tree, paths, [1.0] * len(paths))

    return search
