"""Plan, solve each part, compose."""

from __future__ import annotations

from atomthink_plugin.api import Search


def workflow() -> Search:
    """Plan, solve each part, compose."""
    raise NotImplementedError
