"""Particle filtering over steps."""

from __future__ import annotations

from atomthink_plugin.api import Search


def particle_filter() -> Search:
    """Particle filtering over steps."""
    raise NotImplementedError
