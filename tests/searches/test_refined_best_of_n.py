"""Refined best-of-N against its definition on random trees."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atomthink_plugin.api import Aggregate, Path
from atomthink_plugin.runtime.tree import QuestionTree
from atomthink_plugin.searches.best_of_n import best_of_n
from atomthink_plugin.searches.refined_best_of_n import refined_best_of_n
from tests.searches.test_searches import aggregates, solve
from tests.trees import Grove, groves, tree_of


async def refined(tree: QuestionTree, chains: list[Path], threshold: float, candidates: int) -> list[Path]:
    """The definition, one chain after the other."""
    found = []
    for i, chain in enumerate(chains):
        for step in chain.lineage:
            if await tree.score(step) >= threshold:
                continue
            assert step.parent is not None
            first = len(chains) + i * candidates
            (family,) = await tree.expand([step.parent], candidates, first=first)
            ranks = {child: (await tree.score(child), child.logprob) for child in family}
            best = max(family, key=lambda child: ranks[child])
            if ranks[best][0] > await tree.score(step):
                first = len(chains) * (1 + candidates) + i
                found += await tree.rollouts(1, start=best, first=first)
            break
    return found


@given(groves(depth=4), st.integers(1, 5), st.floats(0, 1), st.integers(1, 3), aggregates, st.integers(0, 99))
def test_it_equals_its_definition(
    grove: Grove, n: int, threshold: float, candidates: int, aggregate: Aggregate, seed: int
) -> None:
    tree, plain = tree_of(grove, seed=seed), tree_of(grove, seed=seed)
    choice = solve(refined_best_of_n(n, threshold, candidates, aggregate), tree)

    async def definition() -> list[tuple[float, str]]:
        chains = await plain.rollouts(n)
        paths = chains + await refined(plain, chains, threshold, candidates)
        return [(await plain.value(path, aggregate), path.key) for path in paths]

    ranked = asyncio.run(definition())
    assert choice.value == pytest.approx(max(value for value, _ in ranked))
    assert choice.path.key in {key for value, key in ranked if value == pytest.approx(choice.value)}
    assert {node.id for node in tree.outcome(choice).nodes} == {node.id for node in plain.outcome(choice).nodes}
    assert tree.usage.generated == plain.usage.generated


@given(groves(depth=4), st.integers(1, 8), aggregates, st.integers(0, 99))
def test_with_threshold_0_it_is_best_of_n(grove: Grove, n: int, aggregate: Aggregate, seed: int) -> None:
    tree, plain = tree_of(grove, seed=seed), tree_of(grove, seed=seed)
    choice = solve(refined_best_of_n(n, 0.0, 3, aggregate), tree)
    assert choice == solve(best_of_n(n, aggregate), plain)
    assert tree.usage.policy_calls == plain.usage.policy_calls


@given(groves(depth=4), st.integers(1, 5), st.floats(0, 1), aggregates, st.integers(0, 99))
def test_it_never_chooses_worse_than_best_of_n(
    grove: Grove, n: int, threshold: float, aggregate: Aggregate, seed: int
) -> None:
    plain = solve(best_of_n(n, aggregate), tree_of(grove, seed=seed))
    assert solve(refined_best_of_n(n, threshold, 2, aggregate), tree_of(grove, seed=seed)).value >= plain.value


def test_the_first_wrong_step_is_replaced_and_noted() -> None:
    wrong, right = "Step 2: Read red = 9.", "Step 2: Read red = 4."
    tree = {
        "": {"Step 1: Look.": 1.0},
        "Step 1: Look.": {wrong: 0.5, right: 0.5},
        f"Step 1: Look.\n\n{wrong}": {"Step 3: The final answer is: 9.": 1.0},
        f"Step 1: Look.\n\n{right}": {"Step 3: The final answer is: 4.": 1.0},
    }
    scores = dict.fromkeys(tree, 0.9) | {f"Step 1: Look.\n\n{wrong}": 0.1}
    scores |= {f"Step 1: Look.\n\n{wrong}\n\nStep 3: The final answer is: 9.": 0.1}
    scores |= {f"Step 1: Look.\n\n{right}\n\nStep 3: The final answer is: 4.": 0.9}
    for seed in range(20):
        one = solve(best_of_n(1), tree_of(Grove(tree, scores, {}), seed=seed))
        grown = tree_of(Grove(tree, scores, {}), seed=seed)
        choice = solve(refined_best_of_n(1, candidates=8), grown)
        assert choice.path.answer == "4"
        notes = {node.text: node.note for node in grown.outcome(choice).nodes}
        if one.path.answer == "4":
            assert set(notes.values()) == {""}
        else:
            assert notes[right] == f"corrects {one.path.lineage[1].key}"


def test_one_step_may_correct_several() -> None:
    right, wrong = "Step 1: The final answer is: 4.", [f"Step 1: The final answer is: {number}." for number in (5, 6)]
    grove = Grove({"": {right: 0.4, wrong[0]: 0.3, wrong[1]: 0.3}}, {right: 0.9, wrong[0]: 0.1, wrong[1]: 0.2}, {})
    tree = tree_of(grove, seed=0)
    nodes = tree.outcome(solve(refined_best_of_n(12, candidates=12), tree)).nodes
    notes = {node.text: node.note for node in nodes}
    ids = {node.text: node.id for node in nodes}
    corrected = notes[right].removeprefix("corrects ").split("+")
    assert sorted(corrected) == sorted(ids[text] for text in wrong)
