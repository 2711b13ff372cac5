"""Sub-questions in turn, on scripted models."""

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
from atomthink_plugin.searches.least_to_most import least_to_most
from atomthink_plugin.searches.quick import quick
from tests.searches.ballots import text_of
from tests.searches.scripted_replies import ScriptedReplies
from tests.trees import question, question_tree, settings


def solver(subquestions: int) -> ScriptedReplies:
    """Decomposes the question into so many; each answer is one more than the sum of the answers it sees."""

    def write(prompt: Prompt, index: int, seed: int) -> str:
        text = text_of(prompt)
        if "Do not answer" in text:
            return "".join(f"{k}. Count bar {k}?\n" for k in range(1, subquestions + 1)) or "None."
        seen = [int(number) for number in re.findall(r"answer is: (\d+)", text.partition("HISTORICAL")[0])]
        if prompt.begun or "Step 1" in text.partition("HISTORICAL")[2]:
            return f"Step 2: The final answer is: {sum(seen) + 1}."
        return f"Step 1: After {len(seen)} answers."

    return ScriptedReplies(write)


def think(policy: ScriptedReplies, limit: int = 4, *, format: Format | None = None, **limits: int) -> Outcome:
    tree = question_tree(policy, format=format, limits=settings(0.0, **limits))
    return tree.outcome(asyncio.run(least_to_most(limit)(tree)))


@given(st.integers(0, 6), st.integers(1, 5))
def test_each_answer_sees_all_before_it(subquestions: int, limit: int) -> None:
    """Brute force: answers 1, 2, 4, ... and the last one is for the question itself."""
    policy = solver(subquestions)
    outcome = think(policy, limit)
    asked = min(subquestions, limit)
    assert outcome.answer == str(2**asked)
    assert outcome.usage.policy_calls == 1 + 2 * (asked + 1)
    assert outcome.stopped == "final"
    (note,) = (node.note for node in outcome.nodes if node.use)
    assert note == f"subquestions {subquestions}, kept {asked}"
    notes = [node.note for node in outcome.nodes if node.answer and node.note]
    assert sorted(notes) == [f"subquestion {k} of {asked}" for k in range(1, asked + 1)]


@pytest.mark.parametrize("format", [Continue(), Atomic()])
def test_the_prompts_hold_the_question_the_answers_and_one_sub_question(format: Format) -> None:
    policy = solver(2)
    assert think(policy, format=format).answer == "4"
    decompose, *rest = [text_of(prompt) for prompt in policy.asked]
    assert "What is q?" in decompose
    assert len(rest) == 6
    for text, known, last in zip(rest[::2], (0, 1, 2), ("Count bar 1?", "Count bar 2?", "itself."), strict=True):
        assert text.count("What is q?") == 1
        assert re.findall(r"Sub-question: (.*)\nAnswer: Step 1: After (\d)", text) == [
            (f"Count bar {k + 1}?", str(k)) for k in range(known)
        ]
        assert last in text.rpartition("Answer: ")[2]


@pytest.mark.parametrize("reply", ["", "Step 1: Read red = 4.", "There is none."])
def test_without_sub_questions_it_is_the_quick_chain(reply: str) -> None:
    plain = solver(0)
    policy = ScriptedReplies(
        lambda prompt, index, seed: reply if "Do not" in text_of(prompt) else plain.reply(prompt, index, seed)
    )
    tree = question_tree(plain, limits=settings(0.0))
    outcome = think(policy)
    assert outcome.text == tree.outcome(asyncio.run(quick()(tree))).text
    assert outcome.usage.policy_calls == 1 + 2


@pytest.mark.parametrize("calls", range(1, 10))
def test_a_spent_budget_ends_the_search_with_the_last_answer(calls: int) -> None:
    outcome = think(solver(2), budget_calls=calls)
    assert outcome.usage.policy_calls == min(calls, 7)
    assert outcome.answer == {1: None, 2: None, 3: "1", 4: "1", 5: "2", 6: "2"}.get(calls, "4")
    assert outcome.stopped == ("budget" if outcome.answer is None else "final")


@pytest.mark.parametrize(("room", "answer"), [(0, "1"), (1, "2"), (2, "4"), (3, "8")])
def test_what_the_context_has_no_room_for_is_left_out(room: int, answer: str) -> None:
    """A question with more than `room` answers or open sub-questions does not fit."""
    policy = solver(3)

    def write(prompt: Prompt, index: int, seed: int) -> str | Step:
        if len(re.findall(r"[Ss]ub-question: ", text_of(prompt))) > room:
            raise QuestionError("too long")
        return policy.reply(prompt, index, seed)

    outcome = think(ScriptedReplies(write))
    assert (outcome.answer, outcome.stopped) == (answer, "final")


def test_answers_may_be_whole_replies() -> None:
    policy = ScriptedReplies(
        lambda prompt, index, seed: (
            "1. Red?\n2. Blue?" if "Do not" in text_of(prompt) else f"It is {text_of(prompt).count('Answer: ')}."
        )
    )
    assert think(policy, format=Direct()).text == "It is 2."


def test_a_question_whose_given_steps_conclude_is_answered_without_a_call() -> None:
    asked = replace(question(), history=("Step 1: To sum up, the final answer is: 4.",))
    policy = solver(2)
    tree = question_tree(policy, asked=asked)
    outcome = tree.outcome(asyncio.run(least_to_most()(tree)))
    assert (outcome.answer, outcome.stopped, policy.asked) == ("4", "final", [])


@pytest.mark.parametrize("calls", [1, 2, 4])
def test_given_steps_begin_every_chain(calls: int) -> None:
    asked = replace(question(), history=("Step 1: Look.",))
    tree = question_tree(solver(2), asked=asked, limits=settings(0.0, budget_calls=calls))
    outcome = tree.outcome(asyncio.run(least_to_most()(tree)))
    assert outcome.steps[0] == "Step 1: Look."
    assert outcome.answer == {1: None, 2: "1", 4: "4"}[calls]
