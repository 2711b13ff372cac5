"""Best-of-N: the path with the best process reward (paper, section 5, path-wise search)."""

from __future__ import annotations

import asyncio

from atomthink_plugin.api import Aggregate, Choice, Count, Search, SearchTree


def best_of_n(n: Count = 8, aggregate: Aggregate = "mean") -> Search:
    """Returns the search that samples `n` QuickThink paths and keeps the best-scored one.

    Concluded paths come before those that ended without an answer; ties go to the likelier path.

    Args:
        n: Paths sampled.
        aggregate: `min` is the paper's worst action, `last` its last action, `mean` its average.
    """

    async def search(tree: SearchTree) -> Choice:
        paths = await tree.rollouts(n)
        values = await asyncio.gather(*(tree.value(path, aggregate) for path in paths))
        best = max(range(n), key=lambda i: (paths[i].final, values[i], paths[i].logprob))
        return Choice(paths[best], values[best], tree.why(paths[best]))

    return search
