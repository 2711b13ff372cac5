"""Greedy step-level search: at each step the best-scored candidate is kept (paper, section 5)."""

from __future__ import annotations

import asyncio

from atomthink_plugin.api import Choice, Count, Search, SearchTree


def greedy(candidates: Count = 3) -> Search:
    """Returns the search that samples `candidates` next steps and follows the best-scored one.

    Ties go to the likelier step.
    """

    async def search(tree: SearchTree) -> Choice:
        path, value = tree.root, 0.0
        while not path.final:
            (children,) = await tree.expand([path], candidates)
            if not children:
                break
            scores = await asyncio.gather(*(tree.score(child) for child in children))
            value, path = max(zip(scores, children, strict=True), key=lambda pair: (pair[0], pair[1].logprob))
        return Choice(path, value, tree.why(path))

    return search
