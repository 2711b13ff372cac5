"""The status of each candidate, derived from the tree, is what the search did."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from atomthink_plugin.api import Node, Outcome, Path, Usage
from atomthink_plugin.report.node_status import FinishedTree, statuses
from atomthink_plugin.searches.beam import beam
from atomthink_plugin.searches.best_of_n import best_of_n
from atomthink_plugin.searches.greedy import greedy
from tests.trees import REDUCE, Grove, groves, tree_of


def searched(search: Any, grove: Grove) -> tuple[Outcome, set[str]]:
    """The outcome, and the keys of the paths that the search extended."""
    tree = tree_of(grove)
    expanded: set[str] = set()
    expand = tree.expand

    async def watched(paths: Sequence[Path], n: int) -> list[list[Path]]:
        expanded.update(path.key for path in paths)
        return await expand(paths, n)

    tree.expand = watched  # type: ignore[method-assign]
    return tree.outcome(asyncio.run(search(tree))), expanded


@given(grove=groves(), beams=st.integers(1, 3), candidates=st.integers(1, 3), aggregate=st.sampled_from(list(REDUCE)))
def test_beam_search_extended_the_paths_that_were_not_pruned(
    grove: Grove, beams: int, candidates: int, aggregate: str
) -> None:
    outcome, expanded = searched(beam(beams, candidates, aggregate), grove)  # type: ignore[arg-type]
    tree = FinishedTree(outcome)
    search = {"name": "beam", "beams": beams, "candidates": candidates, "aggregate": aggregate}
    became = statuses(tree, search)
    for key, status in became.items():
        if key in expanded:
            assert status.kind in ("chosen", "continued")
        elif tree.nodes[key].answer is None:
            assert status.kind in ("pruned", "ended")
    for depth in {status.depth for status in became.values()}:
        level = [status for status in became.values() if status.depth == depth]
        assert sum(status.kind != "pruned" for status in level) == min(beams, len(level))
        pruned = [status.value for status in level if status.kind == "pruned" and status.value is not None]
        kept = [status.value for status in level if status.kind != "pruned" and status.value is not None]
        assert not pruned or max(pruned) <= min(kept)


@given(grove=groves(), candidates=st.integers(1, 4))
def test_greedy_search_keeps_one_candidate_of_each_step(grove: Grove, candidates: int) -> None:
    outcome, _ = searched(greedy(candidates), grove)
    became = statuses(FinishedTree(outcome), {"name": "greedy", "candidates": candidates})
    kept = [status for status in became.values() if status.kind != "pruned"]
    assert {status.kind for status in kept} == {"chosen"}
    assert sorted(status.depth for status in kept) == list(range(1, len(outcome.steps) + 1))


@given(grove=groves(), n=st.integers(1, 6))
def test_rollouts_finish_and_none_is_pruned(grove: Grove, n: int) -> None:
    outcome, _ = searched(best_of_n(n), grove)
    tree = FinishedTree(outcome)
    became = statuses(tree, {"name": "best_of_n", "n": n})
    assert tuple(tree.nodes[key].text for key in tree.chosen) == outcome.steps
    for key, status in became.items():
        finished = tree.nodes[key].answer is not None
        assert status.kind in (("chosen", "finished") if finished else ("chosen", "continued"))
    assert sum(node.multiplicity for node in tree.finished) == n
    for node in tree.finished:
        scores = [step.score for step in tree.lineage(node)]
        for name, reduce in REDUCE.items():
            value = tree.value(node, name)  # type: ignore[arg-type]
            assert value is not None
            assert abs(value - reduce([score for score in scores if score is not None])) < 1e-12


def test_among_equals_the_extended_candidate_is_first() -> None:
    """A served policy may give no log-probabilities, and nodes are ordered by their ids."""
    texts = {"a": "Step 1: Left.", "b": "Step 1: Right.", "c": "Step 2: The answer is 4."}
    parents = {"a": "root", "b": "root", "c": "b"}
    nodes = tuple(
        Node(key, parents[key], text, 0.5, None, 3, 1, "4" if key == "c" else None) for key, text in texts.items()
    )
    steps = (texts["b"], texts["c"])
    outcome = Outcome("\n\n".join(steps), "4", steps, (0.5, 0.5), 0.5, "final", Usage(), nodes)
    became = statuses(FinishedTree(outcome), {"name": "beam", "beams": 1, "candidates": 2})
    assert {key: (status.kind, status.rank) for key, status in became.items()} == {
        "a": ("pruned", 2),
        "b": ("chosen", 1),
        "c": ("chosen", 1),
    }
