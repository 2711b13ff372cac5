"""Majority voting over whole chains, also called self-consistency.

Source: Wang et al., arXiv 2203.11171.
"""

from __future__ import annotations

from atomthink_plugin.api import Choice, Count, Search, SearchTree
from atomthink_plugin.searches.parts.voting import elect


def majority(n: Count = 8) -> Search:
    """Samples `n` chains; the answer that most of them reach wins. Answers are compared by mathematical equivalence.

    Only chains with an answer vote. Ties go to the answer whose chains are likelier under the policy.

    Args:
        n: Chains sampled.
    """

    async def search(tree: SearchTree) -> Choice:
        paths = await tree.rollouts(n)
        return await elect(tree, paths, [1.0] * len(paths))

    return search
