"""Best-of-N that corrects the first wrong step."""

from __future__ import annotations

from atomthink_plugin.api import Search


def refined_best_of_n() -> Search:
    """Best-of-N that corrects the first wrong step."""
    raise NotImplementedError
