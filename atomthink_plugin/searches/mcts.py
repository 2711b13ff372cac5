"""Monte-Carlo tree search over steps or mini-steps."""

from __future__ import annotations

from atomthink_plugin.api import Search


def mcts() -> Search:
    """Monte-Carlo tree search over steps or mini-steps."""
    raise NotImplementedError
