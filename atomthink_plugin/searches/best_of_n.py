"""Best-of-N: the chain with the best process reward.

Source: AtomThink (arXiv 2411.11930), section 5, path-wise search.
"""

from __future__ import annotations

from atomthink_plugin.api import Aggregate, Choice, Count, Search, SearchTree
from atomthink_plugin.searches.parts.choosing import choose, values_of


def best_of_n(n: Count = 8, aggregate: Aggregate = "mean") -> Search:
    """Samples `n` chains and returns the one with the best aggregate of its step scores.

    Chains with an answer rank before chains without one. Ties go to the likelier chain.

    Args:
        n: Chains sampled.
        aggregate: How step scores become the score of a chain: the `last` score (the paper's last action), the `min`
            (worst action), the `mean` (average), the product (`prod`) or the mean of the log odds (`log_odds`).
    """

    async def search(tree: SearchTree) -> Choice:
        paths = await tree.rollouts(n)
        return choose(tree, paths, await values_of(tree, paths, aggregate))

    return search
