"""LLaVA-CoT's stage-wise retracing search."""

from __future__ import annotations

from atomthink_plugin.api import Count, Search


def swires(candidates: Count = 4, keep: Count = 2, retraces: int = 3, threshold: float = 0.6) -> Search:
    """LLaVA-CoT's stage-wise retracing search."""
    raise NotImplementedError
