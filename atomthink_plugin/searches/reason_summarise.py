"""Insight-V's two agents."""

from __future__ import annotations

from atomthink_plugin.api import Search


def reason_summarise() -> Search:
    """Insight-V's two agents."""
    raise NotImplementedError
