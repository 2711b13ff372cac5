"""Majority voting with early stop."""

from __future__ import annotations

from atomthink_plugin.api import Search


def adaptive_majority() -> Search:
    """Majority voting with early stop."""
    raise NotImplementedError
