"""Step-level beam search guided by a process reward model (paper, section 5; published B=2, C=3)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Literal

from atomthink_plugin.api import Aggregate, Choice, Count, Path, Search, SearchTree

Ranked = tuple[float, Path]
"""A path with its aggregate."""


def beam(
    beams: Count = 2,
    candidates: Count = 3,
    aggregate: Aggregate = "mean",
    stop: Literal["pool", "first_final"] = "pool",
) -> Search:
    """Returns the search that keeps the `beams` best paths and samples `candidates` steps of each.

    The root is expanded once, with `beams * candidates` samples. Concluded paths leave the beam for a
    pool; the search ends when the pool holds `beams` paths or no path can be extended, and the pool's best
    aggregate answers. Where no path concluded, the best unfinished one is returned.

    Args:
        beams: Paths kept per level.
        candidates: Samples per kept path.
        aggregate: How a path's step scores become its rank.
        stop: `first_final` ends at the first level whose beam holds a concluded path, as published.
    """

    async def search(tree: SearchTree) -> Choice:
        pool: list[Ranked] = []
        stuck: list[Ranked] = []
        live: list[Ranked] = [(0.0, tree.root)]
        enough = beams if stop == "pool" else 1
        while live and len(pool) < enough:
            samples = beams * candidates if live[0][1] is tree.root else candidates
            families = await tree.expand([path for _, path in live], samples)
            stuck += [parent for parent, family in zip(live, families, strict=True) if not family]
            kept = await _best(tree, [child for family in families for child in family], beams, aggregate)
            pool += [ranked for ranked in kept if ranked[1].final]
            live = [ranked for ranked in kept if not ranked[1].final]
        value, path = max(pool or live + stuck, key=_rank)
        return Choice(path, value, tree.why(path))

    return search


async def _best(tree: SearchTree, paths: Sequence[Path], keep: int, aggregate: Aggregate) -> list[Ranked]:
    """Returns the `keep` best paths, best first."""
    values = await asyncio.gather(*(tree.value(path, aggregate) for path in paths))
    return sorted(zip(values, paths, strict=True), key=_rank, reverse=True)[:keep]


def _rank(ranked: Ranked) -> tuple[float, float]:
    """Ties go to the likelier path."""
    return ranked[0], ranked[1].logprob
