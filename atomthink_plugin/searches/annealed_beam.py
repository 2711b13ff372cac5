"""Beam search that starts wide and narrows with each step.

Source: PRM-BAS (arXiv 2504.10222): a beam whose size shrinks as the context grows. Its abstract, the part of the paper
that was available, leaves the schedule open. Here the width falls by `drop` at each step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

from annotated_types import Ge, Lt

from atomthink_plugin.api import Aggregate, AtomThinkError, Choice, Count, Path, Search, SearchTree
from atomthink_plugin.searches.beam import beam_search
from atomthink_plugin.searches.parts.choosing import rank, values_of


def annealed_beam(
    beams: Count = 4,
    narrowest: Count = 1,
    candidates: Count = 3,
    drop: Annotated[float, Ge(0), Lt(math.inf)] = 1.0,
    aggregate: Aggregate = "mean",
) -> Search:
    """Extends fewer paths at each step: beam search over a schedule of widths.

    Step k, from 0, extends the best `beams - drop * k` paths, rounded up, but at least `narrowest`. It takes
    `candidates` samples for each of them, so that a chain of L steps costs `candidates` times the sum of the first L
    widths. With 4, 3, 2, 1, 1, 1 that is as much as `beam` with two beams. Conclusions are pooled as in `beam`: the
    search ends when as many paths concluded as the next step would extend.

    Args:
        beams: Paths at the first step.
        narrowest: Paths at the last steps.
        candidates: Samples of each path.
        drop: Paths fewer at each step: 1 for one fewer, 0.5 for one fewer at every second step.
        aggregate: How the step scores of a path become its rank: the `last` score, the `min`, the `mean`, the product
            (`prod`) or the mean of the log odds (`log_odds`).
    """
    if narrowest > beams:
        raise AtomThinkError(f"`narrowest={narrowest}` must not be larger than `beams={beams}`")

    def width(step: int) -> int:
        return max(narrowest, math.ceil(beams - drop * step))

    async def search(tree: SearchTree) -> Choice:
        async def rate(paths: Sequence[Path]) -> list[float]:
            values = await values_of(tree, paths, aggregate)
            ranked = sorted(zip(values, paths, strict=True), key=rank, reverse=True)
            for place, (_, path) in enumerate(ranked, 1):
                kept = width(path.depth - tree.root.depth)
                tree.note(path, f"rank {place} of {len(paths)}, kept {kept}")
            return values

        return await beam_search(tree, width, candidates, rate, tree.expand)

    return search
