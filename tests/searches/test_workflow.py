"""Plans, parts and compositions on scripted models."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atomthink_plugin.api import Format, Outcome, Prompt, QuestionError, Step
from atomthink_plugin.formats.atomic import Atomic
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.formats.direct import Direct
from atomthink_plugin.searches.quick import quick
from atomthink_plugin.searches.workflow import workflow
from tests.searches.ballots import text_of
from tests.searches.scripted_replies import ScriptedReplies
from tests.trees import question, question_tree, settings

PART = re.compile(r"Solve only this part of the question: Read bar (\d+)\.")


def planner(parts: int) -> ScriptedReplies:
    return ScriptedReplies(
        lambda prompt, index, seed: "".join(f"{k}. Read bar {k}.\n" for k in range(1, parts + 1)) or "No plan."
    )


def solve(prompt: Prompt, index: int, seed: int) -> str:
    """Bar k is k; a composition adds what the parts found; the question alone is answered with 0."""
    text = text_of(prompt)
    bar = PART.search(text)
    found = [int(number) for number in re.findall(r"Bar (\d+)\.", text)]
    second = bool(prompt.begun) or "Step 1" in text.partition("HISTORICAL")[2]
    if not second:
        return f"Step 1: {f'Look at bar {bar[1]}.' if bar else f'Found {len(found)} bars.'}"
    return f"Step 2: The final answer is: {f'Bar {bar[1]}' if bar else sum(found)}."


def think(plan: ScriptedReplies, parts: int = 4, *, format: Format | None = None, **limits: int) -> Outcome:
    policy = ScriptedReplies(solve)
    tree = question_tree(policy, format=format, limits=settings(0.0, **limits), planner=plan, composer=policy)
    return tree.outcome(asyncio.run(workflow(parts)(tree)))


@given(st.integers(0, 6), st.integers(1, 5))
def test_the_composition_adds_what_the_parts_found(planned: int, limit: int) -> None:
    """Brute force: the sum of the bars of the plan, up to the limit."""
    plan = planner(planned)
    outcome = think(plan, limit)
    parts = min(planned, limit)
    assert outcome.answer == str(sum(range(1, parts + 1)))
    assert outcome.usage.policy_calls == 1 + 2 * parts + 2
    assert outcome.stopped == "final"
    assert len(plan.asked) == 1
    (note,) = (node.note for node in outcome.nodes if node.use == "plan")
    assert note == f"parts {planned}, kept {parts}"


@pytest.mark.parametrize("format", [Continue(), Atomic()])
def test_parts_see_the_question_and_not_each_other(format: Format) -> None:
    policy, composer = ScriptedReplies(solve), ScriptedReplies(solve)
    tree = question_tree(policy, format=format, limits=settings(0.0), planner=planner(3), composer=composer)
    outcome = tree.outcome(asyncio.run(workflow()(tree)))
    assert outcome.answer == "6"
    texts = [text_of(prompt) for prompt in policy.asked]
    assert all("What is q?" in text and "Bar " not in text.replace("Read bar", "") for text in texts)
    assert [len(PART.findall(text)) > 0 for text in texts] == [True] * 6
    composed = text_of(composer.asked[0])
    assert "What is q?" in composed
    for k in (1, 2, 3):
        assert f"Part: Read bar {k}.\nStep 1:" in composed
        assert f"Bar {k}." in composed
    notes = {node.note for node in outcome.nodes if node.answer and node.note}
    assert notes == {"part 1 of 3", "part 2 of 3", "part 3 of 3"}


@pytest.mark.parametrize("reply", ["", "Step 1: Read red = 4.", "I would read the bars first."])
def test_without_a_plan_it_is_the_quick_chain(reply: str) -> None:
    outcome = think(ScriptedReplies(lambda prompt, index, seed: reply))
    tree = question_tree(ScriptedReplies(solve), limits=settings(0.0))
    assert outcome.text == tree.outcome(asyncio.run(quick()(tree))).text
    assert outcome.usage.policy_calls == 1 + 2


@pytest.mark.parametrize("calls", range(1, 10))
def test_a_spent_budget_ends_the_search_with_what_it_has(calls: int) -> None:
    outcome = think(planner(2), budget_calls=calls)
    assert outcome.usage.policy_calls == min(calls, 7)
    assert outcome.answer == {1: None, 2: None, 3: None, 4: "Bar 1", 5: "Bar 2", 6: "Bar 2"}.get(calls, "3")
    assert outcome.stopped == ("budget" if outcome.answer is None else "final")


@pytest.mark.parametrize("lost", ["Solve only", "divided into"])
def test_without_room_for_the_parts_the_question_alone_is_answered(lost: str) -> None:
    def write(prompt: Prompt, index: int, seed: int) -> str | Step:
        if lost in text_of(prompt):
            raise QuestionError("too long")
        return solve(prompt, index, seed)

    policy = ScriptedReplies(write)
    tree = question_tree(policy, limits=settings(0.0), planner=planner(2), composer=policy)
    assert tree.outcome(asyncio.run(workflow()(tree))).answer == "0"


def test_parts_may_be_whole_replies() -> None:
    def reply(prompt: Prompt, index: int, seed: int) -> str:
        bar, found = PART.search(text_of(prompt)), re.findall(r"Bar (\d+)\.", text_of(prompt))
        return f"Bar {bar[1]}." if bar else f"It is {sum(map(int, found))}."

    policy = ScriptedReplies(reply)
    tree = question_tree(policy, format=Direct(), planner=planner(3), composer=policy)
    assert tree.outcome(asyncio.run(workflow()(tree))).text == "It is 6."


def test_a_question_whose_given_steps_conclude_is_answered_without_a_call() -> None:
    asked = replace(question(), history=("Step 1: To sum up, the final answer is: 4.",))
    plan = planner(2)
    tree = question_tree(plan, asked=asked, planner=plan, composer=plan)
    outcome = tree.outcome(asyncio.run(workflow()(tree)))
    assert (outcome.answer, outcome.stopped, plan.asked) == ("4", "final", [])


@pytest.mark.parametrize("calls", [1, 2, 3, 6])
def test_given_steps_begin_every_chain(calls: int) -> None:
    asked = replace(question(), history=("Step 1: Look.",))
    policy = ScriptedReplies(solve)
    tree = question_tree(
        policy, asked=asked, limits=settings(0.0, budget_calls=calls), planner=planner(2), composer=policy
    )
    outcome = tree.outcome(asyncio.run(workflow()(tree)))
    assert outcome.steps[0] == "Step 1: Look."
    assert outcome.answer == {1: None, 2: "Bar 1", 3: "Bar 2", 6: "3"}[calls]
