"""Least-to-most prompting."""

from __future__ import annotations

from atomthink_plugin.api import Search


def least_to_most() -> Search:
    """Least-to-most prompting."""
    raise NotImplementedError
