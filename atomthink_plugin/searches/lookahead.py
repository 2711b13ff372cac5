"""Lookahead search."""

from __future__ import annotations

from atomthink_plugin.api import Search


def lookahead() -> Search:
    """Lookahead search."""
    raise NotImplementedError
