"""Greedy search over steps, guided by a process reward model.

Source: AtomThink (arXiv 2411.11930), section 5, step-wise search.
"""

from __future__ import annotations

import asyncio

from atomthink_plugin.api import Choice, Count, Search, SearchTree


def greedy(candidates: Count = 3) -> Search:
    """Samples `candidates` next steps and follows the best-scored one, until a step states the answer.

    Ties go to the likelier step.

    Args:
        candidates: Samples of each step.
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
