"""Beam search over steps, guided by a process reward model.

Source: AtomThink (arXiv 2411.11930), section 5, step-wise search, published with 2 beams and 3 candidates.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

from atomthink_plugin.api import Aggregate, Choice, Count, Path, Search, SearchTree
from atomthink_plugin.searches.parts.choosing import Ranked, rank, values_of

Rate = Callable[[Sequence[Path]], Awaitable[Sequence[float]]]
"""Returns the values of candidates."""

Grow = Callable[[Sequence[Path], int], Awaitable[list[list[Path]]]]
"""Returns candidates for the next step of each path, from so many samples."""


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
        async def rate(paths: Sequence[Path]) -> list[float]:
            return await values_of(tree, paths, aggregate)

        return await beam_search(tree, lambda step: beams, candidates, rate, tree.expand, stop == "first_final")

    return search


async def beam_search(
    tree: SearchTree, width: Callable[[int], int], candidates: int, rate: Rate, grow: Grow, first_final: bool = False
) -> Choice:
    """Returns the choice of a beam search.

    Args:
        tree: The tree.
        width: Returns how many paths are extended at a step, by its index from 0. The first step is sampled
            `width(0) * candidates` times.
        candidates: Samples of each path.
        rate: Returns the values that candidates are ranked by.
        grow: Returns the candidates.
        first_final: Whether one concluded path ends the search, instead of as many as are extended at this step.
    """
    pool: list[Ranked] = [(0.0, tree.root)] if tree.root.final else []
    stuck: list[Ranked] = []
    live: list[Ranked] = [] if tree.root.final else [(0.0, tree.root)]
    step = 0
    while live and len(pool) < (1 if first_final else width(step)):
        samples = candidates if step else width(0) * candidates
        families = await grow([path for _, path in live], samples)
        stuck += [parent for parent, family in zip(live, families, strict=True) if not family]
        children = [child for family in families for child in family]
        step += 1
        kept = sorted(zip(await rate(children), children, strict=True), key=rank, reverse=True)[: width(step)]
        pool += [ranked for ranked in kept if ranked[1].final]
        live = [ranked for ranked in kept if not ranked[1].final]
    value, path = max(pool or live + stuck, key=rank)
    return Choice(path, value, tree.why(path))
