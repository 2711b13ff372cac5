"""Best-of-N over sampled chains and corrected ones.

Source: Refined-BoN of GM-PRM (arXiv 2508.04088): a generative process reward model finds the first wrong step of a
chain and rewrites it, the policy continues from there, and the best of all chains answers.

Here the process reward model gives numbers only. The first wrong step is the first one with a score below `threshold`.
It is sampled again, and the process reward model chooses among the samples. The paper's abstract, the part that was
available, leaves the numbers of chains open.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from annotated_types import Ge, Le

from atomthink_plugin.api import Aggregate, Choice, Count, Path, Search, SearchTree
from atomthink_plugin.searches.parts.choosing import choose, rank, values_of


def refined_best_of_n(
    n: Count = 5,
    threshold: Annotated[float, Ge(0), Le(1)] = 0.5,
    candidates: Count = 3,
    aggregate: Aggregate = "mean",
) -> Search:
    """Samples `n` chains, corrects the first wrong step of each, and returns the best of old and new chains.

    The first step with a score below `threshold` is sampled `candidates` more times. If the best of these samples has a
    higher score than the step, it takes the step's place, and the chain is continued from there. Without a step below
    the threshold this is `best_of_n`.

    Args:
        n: Chains sampled. With those that are corrected there are up to `2 * n`.
        threshold: Scores below it mark a wrong step.
        candidates: Samples of each correction.
        aggregate: How step scores become the score of a chain: the `last` score, the `min`, the `mean`, the product
            (`prod`) or the mean of the log odds (`log_odds`).
    """

    async def search(tree: SearchTree) -> Choice:
        chains = await tree.rollouts(n)
        wrong = [await _first_wrong(tree, chain, threshold) for chain in chains]
        corrected = await _corrected(tree, wrong, candidates)
        # Chains, corrections and continuations have sample indices of their own, so that no draw is repeated.
        refined = await _continued(tree, corrected, n * (1 + candidates))
        paths = [*chains, *refined]
        return choose(tree, paths, await values_of(tree, paths, aggregate))

    return search


async def _first_wrong(tree: SearchTree, chain: Path, threshold: float) -> Path | None:
    await tree.value(chain, "mean")  # a scorer that reads whole chains then knows all steps
    steps = chain.lineage[tree.root.depth :]
    scores = await values_of(tree, steps, "last")
    return next((step for step, score in zip(steps, scores, strict=True) if score < threshold), None)


async def _corrected(tree: SearchTree, wrong: Sequence[Path | None], candidates: int) -> list[tuple[int, Path]]:
    """Returns the better step in place of each wrong one, with the index of its chain, where there is one."""
    faults = [(i, step, step.parent) for i, step in enumerate(wrong) if step is not None and step.parent is not None]
    firsts = [len(wrong) + i * candidates for i, _, _ in faults]
    families = await tree.expand([parent for _, _, parent in faults], candidates, first=firsts)
    better = []
    corrects: dict[str, tuple[str, ...]] = {}
    for (i, fault, _), family in zip(faults, families, strict=True):
        scores = await values_of(tree, family, "last")
        score, best = max(zip(scores, family, strict=True), key=rank, default=(0.0, fault))
        if score > await tree.score(fault):
            better.append((i, best))
            corrects[best.key] = (*corrects.get(best.key, ()), fault.key)
            tree.note(best, f"corrects {'+'.join(dict.fromkeys(corrects[best.key]))}")
    return better


async def _continued(tree: SearchTree, starts: Sequence[tuple[int, Path]], first: int) -> list[Path]:
    """Returns the chains from the starts to their ends."""
    ends = [path for _, path in starts]
    live = list(range(len(ends)))
    while live := [i for i in live if not ends[i].final]:
        families = await tree.expand([ends[i] for i in live], 1, first=[first + starts[i][0] for i in live])
        live = [i for i, family in zip(live, families, strict=True) if family]
        for i, family in zip(live, filter(None, families), strict=True):
            ends[i] = family[0]
    return ends
