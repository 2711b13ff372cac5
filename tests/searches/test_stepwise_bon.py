"""Best-of-N at each step against the greedy search and brute force, on random trees and scripted judges."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from atomthink_plugin.api import Outcome
from atomthink_plugin.formats.atomic import Atomic
from atomthink_plugin.formats.direct import Direct
from atomthink_plugin.formats.steps import SEPARATOR
from atomthink_plugin.searches.quick import quick
from atomthink_plugin.searches.stepwise_bon import stepwise_bon
from atomthink_plugin.testing import ScriptedPolicy
from tests.searches.ballots import candidates_in, judge, mute, text_of
from tests.searches.scripted_replies import ScriptedReplies
from tests.trees import Grove, groves, question, question_tree, settings


def think(grove: Grove, candidates: int, judge: ScriptedReplies, **limits: int) -> Outcome:
    tree = question_tree(ScriptedPolicy(grove.tree, exhaustive=True), limits=settings(**limits), judge=judge)
    return tree.outcome(asyncio.run(stepwise_bon(candidates)(tree)))


def score_of(grove: Grove, step: str) -> float:
    """Step texts of a grove are distinct, so a step has one history."""
    return next(score for history, score in grove.scores.items() if grove.steps_of(history)[-1] == step)


@given(groves(), st.integers(1, 4))
def test_an_exact_judge_follows_the_best_step_of_every_level(grove: Grove, candidates: int) -> None:
    """Brute force: the best of the first `candidates` steps, after the best ones before it."""
    exact = judge(lambda step: score_of(grove, step))
    outcome = think(grove, candidates, exact)
    history, verdicts = "", []
    while history not in grove.answers:
        options = list(grove.tree[history])[:candidates]
        if len(options) > 1:
            verdicts.append(options)
        best = max(options, key=lambda step: score_of(grove, step))
        history = SEPARATOR.join(filter(None, [history, best]))
    assert list(outcome.steps) == grove.steps_of(history)
    assert [candidates_in(prompt) for prompt in exact.asked] == verdicts
    assert (outcome.answer, outcome.stopped) == (grove.answers[history], "final")


@given(groves())
def test_one_candidate_is_the_quick_chain_and_needs_no_judge(grove: Grove) -> None:
    judge = mute()
    tree = question_tree(ScriptedPolicy(grove.tree, exhaustive=True))
    assert think(grove, 1, judge).steps == tree.outcome(asyncio.run(quick()(tree))).steps
    assert judge.asked == []


@given(groves(), st.integers(1, 4), st.integers(1, 16))
def test_a_spent_budget_ends_the_search_with_the_steps_that_it_has(grove: Grove, candidates: int, calls: int) -> None:
    def exact() -> ScriptedReplies:
        return judge(lambda step: score_of(grove, step))

    whole, outcome = think(grove, candidates, exact()), think(grove, candidates, exact(), budget_calls=calls)
    assert outcome.usage.policy_calls <= calls
    assert outcome.stopped == ("final" if outcome.answer is not None else "budget")
    assert outcome.steps
    if whole.usage.policy_calls <= calls:
        assert outcome.steps == whole.steps


def test_the_judge_sees_the_steps_so_far_and_candidates_have_notes() -> None:
    def write(number: int, index: int) -> str:
        return f"Step {number}: The final answer is: {index}." if number == 2 else f"Step {number}: Road {index}."

    for format in (None, Atomic()):
        policy = ScriptedReplies(
            lambda prompt, index, seed: write(2 if "Road" in text_of(prompt) + prompt.prefix else 1, index)
        )
        exact = judge(lambda step: int(step[-2]))
        tree = question_tree(policy, format=format, judge=exact)
        outcome = tree.outcome(asyncio.run(stepwise_bon(3)(tree)))
        assert outcome.steps == ("Step 1: Road 2.", "Step 2: The final answer is: 2.")
        first, second = exact.asked
        assert "Road 2" not in text_of(first).partition("Candidate 1")[0]
        assert "Step 1: Road 2." in text_of(second).partition("Candidate 1")[0]
        assert all("What is q?" in text_of(prompt) for prompt in exact.asked)
        notes = {node.text: node.note for node in outcome.nodes}
        assert notes["Step 1: Road 2."] == "candidate 3 of 3, chosen by verdict"


def test_whole_replies_are_judged_once() -> None:
    exact = judge(lambda text: int(text[-2]))
    policy = ScriptedReplies(lambda prompt, index, seed: f"It is {index}.")
    tree = question_tree(policy, format=Direct(), judge=exact)
    assert tree.outcome(asyncio.run(stepwise_bon(4)(tree))).text == "It is 3."
    assert len(exact.asked) == 1


def test_a_question_whose_given_steps_conclude_is_answered_without_a_call() -> None:
    asked = replace(question(), history=("Step 1: To sum up, the final answer is: 4.",))
    policy = mute()
    tree = question_tree(policy, asked=asked, judge=policy)
    outcome = tree.outcome(asyncio.run(stepwise_bon(4)(tree)))
    assert (outcome.answer, outcome.stopped, policy.asked) == ("4", "final", [])
