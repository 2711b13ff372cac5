"""Beam search over steps, guided by a process reward model.

Source: AtomThink (arXiv 2411.11930), section 5, step-wise search, published with 2 beams and 3 candidates.
"""

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
    """Keeps the `beams` best paths and samples `candidates` next steps of each.

    The first step is sampled `beams * candidates` times. A path that concludes leaves the beam for a pool. The search
    ends when the pool holds `beams` paths or when no path can be extended, and the path of the pool with the best
    aggregate answers. If no path concluded, the best unfinished one is returned.

    Args:
        beams: Paths kept after each step.
        candidates: Samples of each path that is kept.
        aggregate: How the step scores of a path become its rank: the `last` score, the `min`, the `mean`, the product
            (`prod`) or the mean of the log odds (`log_odds`).
        stop: `pool` ends as described above. `first_final` ends as the published code does: at the first step after
            which the beam holds a concluded path.
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
