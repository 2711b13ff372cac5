"""Zero-shot chain of thought in two calls."""

from __future__ import annotations

from atomthink_plugin.api import Search


def zero_shot_cot() -> Search:
    """Zero-shot chain of thought in two calls."""
    raise NotImplementedError
