"""QuickThink: one chain of atomic steps, without a search.

Source: AtomThink (arXiv 2411.11930), section 4.
"""

from __future__ import annotations

from atomthink_plugin.api import Choice, Search, SearchTree


def quick() -> Search:
    """Samples one chain. A step that is empty, repeated or otherwise malformed is sampled again, see `retries`."""

    async def search(tree: SearchTree) -> Choice:
        (path,) = await tree.rollouts(1)
        return Choice(path, 0.0, tree.why(path))

    return search
