"""Best-of-N by a judge that names an index."""

from __future__ import annotations

from atomthink_plugin.api import Count, Search


def judge_best_of_n(n: Count = 8) -> Search:
    """Best-of-N by a judge that names an index."""
    raise NotImplementedError
