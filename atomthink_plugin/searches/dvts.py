"""Diverse verifier tree search."""

from __future__ import annotations

from atomthink_plugin.api import Search


def dvts() -> Search:
    """Diverse verifier tree search."""
    raise NotImplementedError
