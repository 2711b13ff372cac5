"""Rationale and answer as two inferences, on scripted models."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given

from atomthink_plugin.api import Format, Outcome, Prompt
from atomthink_plugin.formats.atomic import Atomic
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.formats.stages import STAGES, Stages
from atomthink_plugin.searches.quick import quick
from atomthink_plugin.searches.two_stage import two_stage
from atomthink_plugin.testing import ScriptedPolicy
from tests.searches.scripted_replies import ScriptedReplies
from tests.trees import Grove, groves, question_tree, settings

STEPS = ("Step 1: Read red = 4.", "Step 2: Read blue = 7.", "Step 3: To sum up, the final answer is: 28.")


def text_of(prompt: Prompt) -> str:
    replies = "".join(part for turn in prompt.messages for part in turn.parts if isinstance(part, str))
    return replies + prompt.prefix


def thinker() -> ScriptedReplies:
    """Writes the steps, the next one after those that the prompt holds."""
    return ScriptedReplies(lambda prompt, index, seed: next(step for step in STEPS if step not in text_of(prompt)))


def answers(text: str) -> ScriptedReplies:
    return ScriptedReplies(lambda prompt, index, seed: text)


def think(policy: ScriptedReplies, answer: ScriptedReplies, format: Format | None = None, **limits: int) -> Outcome:
    tree = question_tree(policy, format=format or Continue(), limits=settings(**limits), answer=answer)
    return tree.outcome(asyncio.run(two_stage()(tree)))


@pytest.mark.parametrize("format", [Continue(), Atomic()])
def test_the_second_model_answers_from_the_question_and_the_rationale(format: Format) -> None:
    policy, answer = thinker(), answers("Step 3: 4 + 7 = 11.\n\nStep 4: To sum up, the final answer is: 11.")
    outcome = think(policy, answer, format)
    assert outcome.answer == "11"
    assert outcome.steps == (*STEPS[:2], "Step 3: 4 + 7 = 11.\n\nStep 4: To sum up, the final answer is: 11.")
    (prompt,) = answer.asked
    assert "What is q?" in text_of(prompt)
    assert "\n\n".join(STEPS[:2]) in text_of(prompt)
    assert STEPS[2] not in text_of(prompt)
    assert len(policy.asked) == len(STEPS)
    assert outcome.usage.policy_calls == len(STEPS) + 1
    (node,) = (node for node in outcome.nodes if node.use)
    assert (node.use, node.role, node.answer) == ("answer", "answer", "11")


@given(groves())
def test_it_is_two_plain_calls(grove: Grove) -> None:
    """Brute force: the quick chain, then one reply to what it says without its conclusion."""
    tree = question_tree(ScriptedPolicy(grove.tree))
    chain = tree.outcome(asyncio.run(quick()(tree)))
    answer = answers("Step 9: To sum up, the final answer is: 99.")
    tree = question_tree(ScriptedPolicy(grove.tree), answer=answer)
    outcome = tree.outcome(asyncio.run(two_stage()(tree)))
    if len(chain.steps) == 1:
        assert (outcome.steps, answer.asked) == (chain.steps, [])
        return
    assert outcome.steps == (*chain.steps[:-1], "Step 9: To sum up, the final answer is: 99.")
    assert [prompt.prefix for prompt in answer.asked] == ["".join(f"{step}\n\n" for step in chain.steps[:-1])]
    assert outcome.usage.policy_calls == chain.usage.policy_calls + 1


@pytest.mark.parametrize("reply", ["", "I cannot tell.", "word " * 3000])
def test_the_chains_own_conclusion_is_kept_if_no_answer_is_read(reply: str) -> None:
    outcome = think(thinker(), answers(reply))
    assert (outcome.answer, outcome.steps, outcome.stopped) == ("28", STEPS, "final")


def test_a_chain_without_a_conclusion_is_a_rationale() -> None:
    outcome = think(thinker(), answers("Step 3: To sum up, the final answer is: 11."), max_steps=2)
    assert (outcome.answer, outcome.stopped) == ("11", "final")
    assert outcome.steps[:2] == STEPS[:2]


def test_without_any_answer_the_reason_is_the_chains() -> None:
    outcome = think(thinker(), answers("No."), max_steps=2)
    assert (outcome.answer, outcome.steps, outcome.stopped) == (None, STEPS[:2], "depth")


@pytest.mark.parametrize("calls", range(1, 5))
def test_a_spent_budget_ends_the_search_with_what_it_has(calls: int) -> None:
    outcome = think(thinker(), answers("The final answer is: 11."), budget_calls=calls)
    assert outcome.usage.policy_calls == calls
    assert outcome.answer == {3: "28", 4: "11"}.get(calls)
    assert outcome.stopped == ("final" if calls >= 3 else "budget")


@pytest.mark.parametrize("stops", [True, False])
def test_stages_are_concluded_by_the_second_model(stops: bool) -> None:
    def stage(number: str) -> ScriptedReplies:
        return ScriptedReplies(
            lambda prompt, index, seed: f"{number} {str(prompt.begun[-1]).replace('<', '</')}", stops=stops
        )

    answer = stage("11")
    outcome = think(stage("28"), answer, Stages())
    assert outcome.answer == "11"
    assert outcome.text == "\n\n".join(
        f"<{name}> {'11' if name == 'CONCLUSION' else '28'} </{name}>" for name in STAGES
    )
    assert len(answer.asked) == 1
