"""Diverse verifier tree search against its definition on random trees."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atomthink_plugin.api import Aggregate, AtomThinkError, Path
from atomthink_plugin.runtime.tree import QuestionTree
from atomthink_plugin.searches.dvts import dvts
from atomthink_plugin.searches.greedy import greedy
from tests.searches.test_searches import aggregates, solve
from tests.trees import Grove, groves, tree_of


async def subtree(tree: QuestionTree, first: int, width: int, aggregate: Aggregate) -> Path:
    """One greedy search by itself, with samples from `first` on."""
    path = tree.root
    while not path.final:
        ranks = {}
        for child in (await tree.expand([path], width, first=first))[0]:
            ranks[child] = (await tree.value(child, aggregate), child.logprob)
        path = max(ranks, key=lambda child: ranks[child])
    return path


@given(groves(depth=4), st.integers(1, 4), st.integers(1, 3), aggregates, st.integers(0, 99))
def test_it_is_the_best_of_independent_greedy_searches(
    grove: Grove, subtrees: int, width: int, aggregate: Aggregate, seed: int
) -> None:
    together = tree_of(grove, seed=seed)
    choice = solve(dvts(subtrees * width, width, aggregate), together)
    tree = tree_of(grove, seed=seed)

    async def one_by_one() -> list[tuple[float, str]]:
        ends = [await subtree(tree, i * width, width, aggregate) for i in range(subtrees)]
        return [(await tree.value(end, aggregate), end.key) for end in ends]

    ends = asyncio.run(one_by_one())
    assert choice.value == pytest.approx(max(value for value, _ in ends))
    assert choice.path.key in {key for value, key in ends if value == pytest.approx(choice.value)}
    assert together.usage.policy_calls == tree.usage.policy_calls


@given(groves(depth=4), st.integers(1, 4), st.integers(0, 99))
def test_one_subtree_is_greedy_search(grove: Grove, width: int, seed: int) -> None:
    one, plain = tree_of(grove, seed=seed), tree_of(grove, seed=seed)
    choice = solve(dvts(width, width, "last"), one)
    assert choice == solve(greedy(width), plain)
    assert one.usage == plain.usage


def test_subtrees_that_meet_part_again() -> None:
    coin = {f"Step 2: The final answer is: {side}.": 0.5 for side in "01"}
    scores = {"Step 1: Toss.": 0.5} | {f"Step 1: Toss.\n\n{text}": 0.5 for text in coin}
    tree = tree_of(Grove({"": {"Step 1: Toss.": 1.0}, "Step 1: Toss.": coin}, scores, {}))
    nodes = tree.outcome(solve(dvts(100, 1), tree)).nodes
    sides = Counter({node.answer: node.multiplicity for node in nodes if node.answer is not None})
    assert sides.total() == 100
    assert 25 < sides["0"] < 75  # 5 standard deviations around 50
    notes = {node.text: node.note for node in nodes}
    assert notes["Step 1: Toss."] == "subtree " + "+".join(str(i) for i in range(1, 101))


def test_the_samples_have_to_fill_the_subtrees() -> None:
    with pytest.raises(AtomThinkError, match=r"n=6.*width=4"):
        dvts(n=6, width=4)


@pytest.mark.parametrize("likely", ["a", "b"])
def test_of_equal_candidates_the_likelier_one_is_followed(likely: str) -> None:
    steps = {f"Step 1: Take the road {name}.": 0.6 if name == likely else 0.4 for name in "ab"}
    ends = {step: {f"Step 2: The final answer is: {step[-2]}.": 1.0} for step in steps}
    scores = dict.fromkeys([*steps, *(f"{step}\n\n{end}" for step, (end,) in ends.items())], 0.5)
    choice = solve(dvts(2, 2), tree_of(Grove({"": steps, **ends}, scores, {}), exhaustive=True))
    assert choice.path.answer == likely
