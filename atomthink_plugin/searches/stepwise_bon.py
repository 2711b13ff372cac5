"""Best-of-N at each step, by a judge that names an index."""

from __future__ import annotations

from atomthink_plugin.api import Count, Search


def stepwise_bon(candidates: Count = 4) -> Search:
    """Best-of-N at each step, by a judge that names an index."""
    raise NotImplementedError
