"""What every scorer asks of a path."""

from __future__ import annotations

from atomthink_plugin.api import Path, Step


def last_step(path: Path) -> Step:
    """Returns the step to score.

    Raises:
        ValueError: The path is a root.
    """
    if path.step is None:
        raise ValueError("the root of a search has no step to score")
    return path.step
