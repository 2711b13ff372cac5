"""Voting over permuted options."""

from __future__ import annotations

from atomthink_plugin.api import Count, Search


def shuffle_vote(n: Count = 5) -> Search:
    """Voting over permuted options."""
    raise NotImplementedError
