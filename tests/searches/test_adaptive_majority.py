"""Voting with early stop against full votes and one-by-one draws."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import product
from math import factorial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atomthink_plugin.api import Path
from atomthink_plugin.searches.adaptive_majority import adaptive_majority, certainty
from atomthink_plugin.searches.majority import majority
from tests.searches.test_searches import rollouts, solve
from tests.trees import Grove, groves, tree_of


def toss(*answers: str) -> Grove:
    """Chains of one step; sample `i` of the exhaustive policy has answer `i`."""
    steps = {f"Step 1: Try {i}. The final answer is: {answer}.": 0.1 for i, answer in enumerate(answers)}
    return Grove({"": steps}, {}, {})


def votes(paths: list[Path]) -> tuple[int, int]:
    counts = sorted(Counter(path.answer for path in paths if path.answer is not None).values(), reverse=True)
    return (*counts, 0, 0)[0], (*counts, 0, 0)[1]


@pytest.mark.parametrize("n", range(1, 6))
def test_with_full_confidence_it_has_the_answer_of_all_votes(n: int) -> None:
    """Brute force over all sequences of up to three answers."""
    for answers in product("012", repeat=n):
        grove = toss(*answers)
        tree = tree_of(grove, exhaustive=True)
        choice = solve(adaptive_majority(n, confidence=1.0), tree)
        full = solve(majority(n), tree_of(grove, exhaustive=True))
        assert choice.path.answer == full.path.answer
        # One chain fewer would not have decided: the others could all go to the second answer.
        drawn = tree.usage.policy_calls
        most, second = votes(rollouts(tree_of(grove, exhaustive=True), drawn - 1)) if drawn > 1 else (0, 0)
        assert most - second <= n - (drawn - 1)


@given(groves(), st.integers(1, 20), st.floats(0.501, 1.0), st.integers(0, 99))
def test_it_is_the_vote_of_chains_drawn_one_by_one(grove: Grove, n: int, confidence: float, seed: int) -> None:
    paths = rollouts(tree_of(grove, seed=seed), n)
    drawn = 1
    while drawn < n:
        most, second = votes(paths[:drawn])
        if most - second > n - drawn or (confidence < 1 and certainty(most, second) >= confidence):
            break
        drawn += 1
    tree = tree_of(grove, seed=seed)
    choice = solve(adaptive_majority(n, confidence), tree)
    assert choice == solve(majority(drawn), tree_of(grove, seed=seed))
    assert len(tree.outcome(choice).rollouts) == drawn


@given(st.integers(0, 12), st.integers(0, 12))
def test_the_certainty_is_that_of_the_beta_distribution(most: int, second: int) -> None:
    # The integral of x^a (1-x)^b from 1/2 to 1 over that from 0 to 1, by the midpoint rule.
    cells = 2000
    whole = factorial(most) * factorial(second) / factorial(most + second + 1)
    points = ((0.5 + (i + 0.5) / (2 * cells)) for i in range(cells))
    upper = sum(x**most * (1 - x) ** second for x in points) / (2 * cells)
    assert certainty(most, second) == pytest.approx(upper / whole, rel=1e-4)


@pytest.mark.parametrize("confidence", [0.95, 0.96875])  # the published one, and exactly the certainty of 4 to 0
def test_four_votes_for_one_answer_are_enough_for_the_published_confidence(confidence: float) -> None:
    grove = toss(*"1111" * 10)
    tree = tree_of(grove, exhaustive=True)
    choice = solve(adaptive_majority(n=40, confidence=confidence), tree)
    assert tree.usage.policy_calls == 4
    (note,) = (node.note for node in tree.outcome(choice).nodes if node.note)
    assert note.startswith("drawn 4 of 40, votes 4 to 0, certainty 0.969, tokens saved ")
    words = sum(len(step.token_ids) for step in choice.path.steps)
    assert int(note.rpartition(" ")[2]) == 36 * words


def test_chains_without_an_answer_do_not_vote() -> None:
    tree = tree_of(Grove({"": {"Step 1: Look.": 1.0}, "Step 1: Look.": {"": 1.0}}, {}, {}), retries=0)
    choice = solve(adaptive_majority(3), tree)
    assert (choice.path.answer, choice.path.depth, choice.value) == (None, 1, 0.0)


def test_it_ends_when_the_budget_is_spent() -> None:
    tree = tree_of(toss("1", "2", "3"), exhaustive=True, budget_calls=2)
    choice = solve(adaptive_majority(8), tree)
    assert choice.path.final
    assert tree.usage.policy_calls == 2
    asyncio.run(tree.close())
