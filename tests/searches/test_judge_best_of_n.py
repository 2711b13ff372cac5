"""Best-of-N by a judge against brute force, on random trees and scripted judges."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atomthink_plugin.api import Outcome, Path, Prompt
from atomthink_plugin.formats.direct import Direct
from atomthink_plugin.searches.judge_best_of_n import judge_best_of_n
from atomthink_plugin.testing import ScriptedPolicy, history_of
from tests.searches.ballots import candidates_in, judge, mute, text_of
from tests.searches.scripted_replies import ScriptedReplies
from tests.trees import Grove, groves, question_tree, settings


def think(grove: Grove, n: int, judge: ScriptedReplies, seed: int = 0, **limits: int) -> Outcome:
    tree = question_tree(ScriptedPolicy(grove.tree), limits=settings(seed=seed, **limits), judge=judge)
    return tree.outcome(asyncio.run(judge_best_of_n(n)(tree)))


def chains(grove: Grove, n: int, seed: int) -> list[Path]:
    return asyncio.run(question_tree(ScriptedPolicy(grove.tree), limits=settings(seed=seed)).rollouts(n))


@given(groves(), st.integers(1, 8), st.integers(0, 99))
def test_an_exact_judge_finds_the_best_chain_by_one_call(grove: Grove, n: int, seed: int) -> None:
    """Brute force: the best of the distinct chains, by the product of their scores."""
    exact = judge(lambda text: grove.value(text, "prod"))
    outcome = think(grove, n, exact, seed)
    distinct = list(dict.fromkeys(history_of(path) for path in chains(grove, n, seed)))
    assert list(outcome.steps) == grove.steps_of(max(distinct, key=lambda text: grove.value(text, "prod")))
    assert [candidates_in(prompt) for prompt in exact.asked] == ([distinct] if len(distinct) > 1 else [])
    assert outcome.stopped == "final"


@given(groves(), st.integers(1, 8), st.integers(0, 99))
def test_a_judge_that_names_nothing_leaves_the_likeliest_chain(grove: Grove, n: int, seed: int) -> None:
    outcome = think(grove, n, mute(), seed)
    likeliest = max(chains(grove, n, seed), key=lambda path: path.logprob)
    assert outcome.steps == tuple(step.text for step in likeliest.steps)


@given(groves(), st.integers(1, 6), st.integers(1, 40))
def test_a_budget_is_never_exceeded(grove: Grove, n: int, calls: int) -> None:
    exact = judge(lambda text: grove.value(text, "prod"))
    outcome = think(grove, n, exact, budget_calls=calls, max_steps=3)
    assert outcome.usage.policy_calls <= calls
    assert outcome.stopped == ("final" if outcome.answer is not None else "budget")
    assert outcome.steps  # a budget of one call pays for a step


def test_only_chains_with_an_answer_are_judged() -> None:
    def write(prompt: Prompt, index: int, seed: int) -> str:
        if not prompt.begun:
            return f"Step 1: Road {index}."
        return "---" if index == 1 else f"Step 2: The final answer is: {index}."

    exact = judge(lambda text: int(text[-2]))
    tree = question_tree(ScriptedReplies(write), limits=settings(retries=0), judge=exact)
    outcome = tree.outcome(asyncio.run(judge_best_of_n(4)(tree)))
    assert outcome.answer == "3"
    (shown,) = map(candidates_in, exact.asked)
    assert [text[-2] for text in shown] == ["0", "2", "3"]


def test_without_any_answer_the_likeliest_chain_is_returned_unjudged() -> None:
    policy, exact = ScriptedReplies(lambda prompt, index, seed: f"Step 1: Road {index}."), mute()
    tree = question_tree(policy, limits=settings(max_steps=1), judge=exact)
    outcome = tree.outcome(asyncio.run(judge_best_of_n(3)(tree)))
    assert (outcome.answer, outcome.stopped, outcome.steps) == (None, "depth", ("Step 1: Road 0.",))
    assert exact.asked == []


@pytest.mark.parametrize("n", [1, 4])
def test_whole_replies_are_judged(n: int) -> None:
    policy = ScriptedReplies(lambda prompt, index, seed: f"It is {index}.")
    exact = judge(lambda text: int(text[-2]) % 3)
    tree = question_tree(policy, format=Direct(), judge=exact)
    outcome = tree.outcome(asyncio.run(judge_best_of_n(n)(tree)))
    assert outcome.text == ("It is 2." if n == 4 else "It is 0.")
    assert all("What is q?" in text_of(prompt) for prompt in exact.asked)
