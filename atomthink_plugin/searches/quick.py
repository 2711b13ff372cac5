"""QuickThink: one chain of atomic steps (paper, section 4)."""

from __future__ import annotations

from atomthink_plugin.api import Choice, Search, SearchTree


def quick() -> Search:
    """Returns the search that follows one path; the tree resamples its invalid steps."""

    async def search(tree: SearchTree) -> Choice:
        (path,) = await tree.rollouts(1)
        return Choice(path, 0.0, tree.why(path))

    return search
