"""Diverse verifier tree search: independent greedy searches, of which the best end answers.

Source: Beeching et al., "Scaling test-time compute with open models" (2024; code: huggingface/search-and-learn): `n`
candidates per step are divided among `n / width` subtrees, each of which keeps its best candidate. The published
defaults are `width=4` and the aggregate `last`.

Different from the published code: candidates are ranked by their own steps. There, each is ranked after one more greedy
step by default, as in `lookahead`.

As in the published code, nothing makes the first steps of subtrees distinct but that each subtree samples its own. Here
subtrees that meet in one node still draw different samples from there. The published code can also let the ends vote;
here, as in its `pred`, the end with the best aggregate answers.
"""

from __future__ import annotations

from atomthink_plugin.api import Aggregate, AtomThinkError, Choice, Count, Path, Search, SearchTree
from atomthink_plugin.searches.parts.choosing import choose, rank, values_of


def dvts(n: Count = 8, width: Count = 4, aggregate: Aggregate = "mean") -> Search:
    """Searches greedily in `n / width` independent subtrees and returns the best of their ends.

    Each subtree samples `width` next steps and follows the one with the best aggregate. Ends with an answer rank before
    ends without one. Ties go to the likelier path.

    Args:
        n: Samples of each step, over all subtrees; a multiple of `width`.
        width: Samples of each step in one subtree.
        aggregate: How step scores become the rank of candidates and of ends: the `last` score, the `min`, the `mean`,
            the product (`prod`) or the mean of the log odds (`log_odds`).
    """
    if n % width:
        raise AtomThinkError(f"`n={n}` must be a multiple of `width={width}`, the samples of one subtree")
    firsts = range(0, n, width)

    async def search(tree: SearchTree) -> Choice:
        ends = [tree.root for _ in firsts]
        live = [] if tree.root.final else list(range(len(ends)))
        while live:
            families = await tree.expand([ends[i] for i in live], width, first=[firsts[i] for i in live])
            live = [i for i, family in zip(live, families, strict=True) if family]
            for i, family in zip(live, filter(None, families), strict=True):
                ranked = zip(await values_of(tree, family, aggregate), family, strict=True)
                ends[i] = max(ranked, key=rank)[1]
            live = [i for i in live if not ends[i].final]
        _note(tree, ends)
        return choose(tree, ends, await values_of(tree, ends, aggregate))

    return search


def _note(tree: SearchTree, ends: list[Path]) -> None:
    """Notes at each step which subtrees follow it."""
    followers: dict[str, list[str]] = {}
    steps = {node.key: node for end in ends for node in end.lineage[tree.root.depth :]}
    for number, end in enumerate(ends, 1):
        for node in end.lineage:
            followers.setdefault(node.key, []).append(str(number))
    for key, node in steps.items():
        tree.note(node, f"subtree {'+'.join(followers[key])}")
