"""Voting among the most complex chains."""

from __future__ import annotations

from atomthink_plugin.api import Count, Search


def complex_vote(n: Count = 50, keep: Count = 40) -> Search:
    """Voting among the most complex chains."""
    raise NotImplementedError
