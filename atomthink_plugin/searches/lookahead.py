"""Beam search in which a candidate is judged by where it leads.

Source: lookahead search (Snell et al., arXiv 2408.03314; code: huggingface/search-and-learn): a candidate is continued
by a few steps at temperature 0, and the process reward model scores the end of this rollout instead of the candidate.

Different from the published code: the rollout takes sample 0 of each node, which is greedy unless `temperature` is
raised. This sample is also the first candidate of the next step, so that it is not drawn twice. A path without room for
a rollout is judged by its own steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from annotated_types import Ge

from atomthink_plugin.api import Aggregate, Choice, Count, Path, Search, SearchTree
from atomthink_plugin.searches.beam import beam_search
from atomthink_plugin.searches.parts.choosing import values_of


def lookahead(
    beams: Count = 2,
    candidates: Count = 3,
    depth: Annotated[int, Ge(0)] = 1,
    aggregate: Aggregate = "mean",
) -> Search:
    """Ranks each candidate step by the value of a greedy rollout that continues it by up to `depth` steps.

    Otherwise as `beam`, which is the case `depth=0`. If the budget is spent before a path concludes, the rollout of the
    best path is its continuation.

    Args:
        beams: Paths kept after each step.
        candidates: Samples of each path that is kept.
        depth: Steps of a rollout. It ends earlier at a final answer.
        aggregate: How the step scores up to the end of a rollout become the candidate's rank: the `last` score, the
            `min`, the `mean`, the product (`prod`) or the mean of the log odds (`log_odds`).
    """

    async def search(tree: SearchTree) -> Choice:
        follows: dict[str, Path | None] = {}

        async def rate(paths: Sequence[Path]) -> list[float]:
            ends = await _ahead(tree, paths, depth, follows)
            values = await values_of(tree, ends, aggregate)
            for path, end, value in zip(paths, ends, values, strict=True):
                if end is not path:
                    tree.note(path, f"lookahead {value:.3f}, steps {end.depth - path.depth}, end {end.key}")
            return values

        async def grow(paths: Sequence[Path], n: int) -> list[list[Path]]:
            first = [follows.get(path.key) for path in paths]
            if not any(path.key in follows for path in paths):
                return await tree.expand(paths, n)
            others = await tree.expand(paths, n - 1, first=1) if n > 1 else [[] for _ in paths]
            return [_distinct([path, *more] if path else more) for path, more in zip(first, others, strict=True)]

        return await beam_search(tree, lambda step: beams, candidates, rate, grow)

    return search


async def _ahead(tree: SearchTree, paths: Sequence[Path], depth: int, follows: dict[str, Path | None]) -> list[Path]:
    """Returns the ends of the paths' rollouts.

    Args:
        tree: The tree.
        paths: Where they start.
        depth: Their steps.
        follows: The steps of rollouts so far: for each path its child, None if it has none.
    """
    ends = list(paths)
    for _ in range(depth):
        new = {end.key: end for end in ends if not end.final and end.key not in follows}
        families = await tree.expand(list(new.values()), 1)
        follows.update({key: next(iter(family), None) for key, family in zip(new, families, strict=True)})
        ends = [follows.get(end.key) or end for end in ends]
    return ends


def _distinct(paths: Sequence[Path]) -> list[Path]:
    found: Mapping[str, Path] = {path.key: path for path in reversed(paths)}
    return [found[key] for key in dict.fromkeys(path.key for path in paths)]
