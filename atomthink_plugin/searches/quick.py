"""QuickThink: one chain of atomic steps (paper, section 4)."""

from __future__ import annotations

from atomthink_plugin.api import Choice, Mind, Search


def quick() -> Search:
    """Returns the search that follows one path; the mind resamples its invalid steps."""

    async def search(mind: Mind) -> Choice:
        (path,) = await mind.rollouts(1)
        return Choice(path, 0.0, mind.why(path))

    return search
