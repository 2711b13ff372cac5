"""Beam search that starts wide and narrows."""

from __future__ import annotations

from atomthink_plugin.api import Search


def annealed_beam() -> Search:
    """Beam search that starts wide and narrows."""
    raise NotImplementedError
