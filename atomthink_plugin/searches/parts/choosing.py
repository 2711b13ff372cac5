"""Ranks of paths, shared by searches that take the path with the best value."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from atomthink_plugin.api import Aggregate, Choice, Path, SearchTree

Ranked = tuple[float, Path]
"""A path with its value."""


async def values_of(tree: SearchTree, paths: Sequence[Path], aggregate: Aggregate) -> list[float]:
    """Returns the value of each path."""
    return await asyncio.gather(*(tree.value(path, aggregate) for path in paths))


def rank(ranked: Ranked) -> tuple[float, float]:
    """Returns what paths are sorted by. Ties go to the likelier path."""
    return ranked[0], ranked[1].logprob


def choose(tree: SearchTree, paths: Sequence[Path], values: Sequence[float]) -> Choice:
    """Returns the path with the best value. Paths with an answer rank before paths without one."""
    ranked = zip(values, paths, strict=True)
    value, path = max(ranked, key=lambda found: (found[1].final, *rank(found)))
    return Choice(path, value, tree.why(path))
