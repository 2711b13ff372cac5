"""Rationale and answer in two calls, on scripted models."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from PIL import Image

from atomthink_plugin.api import Format, Message, Outcome, Prompt, Question
from atomthink_plugin.formats.atomic import Atomic
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.formats.direct import Direct
from atomthink_plugin.formats.stages import Stages
from atomthink_plugin.searches.zero_shot_cot import zero_shot_cot
from tests.searches.ballots import text_of
from tests.searches.scripted_replies import ScriptedReplies
from tests.trees import question, question_tree, settings

THINK = "Let's think step by step."
RATIONALE = "Red is 4.\n\nBlue is 7."


def whole(prompt: Prompt) -> str:
    return text_of(prompt) + prompt.prefix


def writer(answer: str, rationale: str = RATIONALE) -> ScriptedReplies:
    return ScriptedReplies(lambda prompt, index, seed: rationale if whole(prompt).endswith(THINK) else answer)


def think(
    policy: ScriptedReplies, format: Format | None = None, asked: Question | None = None, **limits: int
) -> Outcome:
    tree = question_tree(policy, format=format, asked=asked, limits=settings(0.0, **limits))
    return tree.outcome(asyncio.run(zero_shot_cot()(tree)))


@pytest.mark.parametrize(
    ("format", "continued"), [(Continue(), True), (Stages(), True), (Atomic(), False), (Direct(), False)]
)
def test_it_is_two_plain_calls(format: Format, continued: bool) -> None:
    image = Image.new("RGB", (1, 1))
    asked = Question("q", (Message("user", (image, "What is q?")),))
    policy = writer("11. And more.\n\nQ: What is r?")
    outcome = think(policy, format, asked)
    first, second = policy.asked
    assert [bool(prompt.begun) for prompt in policy.asked] == [continued] * 2
    assert [prompt.images for prompt in policy.asked] == [(image,)] * 2
    separator = "" if continued else "\n\n"
    assert whole(first) == f"What is q?{separator}{THINK}"
    assert whole(second) == f"What is q?{separator}{THINK} {RATIONALE}\n\nTherefore, the answer is"
    assert outcome.text == f"{THINK} {RATIONALE}\n\nTherefore, the answer is 11. And more."
    assert (outcome.answer, outcome.stopped, outcome.usage.policy_calls) == ("11", "final", 2)
    assert [sampling.max_tokens for sampling in policy.samplings] == [2048, 128]


def test_the_second_prompt_begins_with_the_pieces_of_the_first() -> None:
    policy = writer("11.")
    think(policy)
    first, second = policy.asked
    assert second.begun[: len(first.begun)] == first.begun
    assert second.messages == first.messages


@pytest.mark.parametrize(
    ("choices", "trigger"),
    [((), "the answer is"), (("4", "7", "11"), "among A through C, the answer is"), (("4",), "the answer is")],
)
def test_options_are_named_in_the_second_call(choices: tuple[str, ...], trigger: str) -> None:
    policy = writer("B.")
    outcome = think(policy, asked=replace(question(), choices=choices))
    assert policy.asked[1].prefix.endswith(f"\n\nTherefore, {trigger}")
    assert outcome.answer == "B"


@pytest.mark.parametrize("reply", ["", "not known.", "what?"])
def test_an_answer_of_the_rationale_counts_if_the_second_reply_has_none(reply: str) -> None:
    rationale = "Red is 4. The answer is 4."
    outcome = think(writer(reply, rationale))
    assert (outcome.answer, outcome.stopped, outcome.text) == ("4", "final", f"{THINK} {rationale}")
    assert think(writer(reply)).answer is None


def test_a_rationale_that_reached_its_limit_is_answered() -> None:
    outcome = think(writer("11.", "word " * 3000), max_new_tokens=20)
    assert outcome.answer == "11"
    assert outcome.steps[0].count("word") == 20


@pytest.mark.parametrize("calls", [1, 2, 3])
def test_a_spent_budget_ends_the_search_with_what_it_has(calls: int) -> None:
    outcome = think(writer("11."), budget_calls=calls)
    assert outcome.usage.policy_calls == min(calls, 2)
    assert (outcome.answer, outcome.stopped) == ((None, "budget") if calls == 1 else ("11", "final"))
    assert outcome.steps[0] == f"{THINK} {RATIONALE}"


@pytest.mark.parametrize("format", [Continue(), Atomic()])
def test_given_steps_come_before_the_trigger(format: Format) -> None:
    policy = writer("11.")
    outcome = think(policy, format, replace(question(), history=("Step 1: Look.",)))
    assert whole(policy.asked[0]).endswith(f"Step 1: Look.\n\n{THINK}")
    assert whole(policy.asked[1]).endswith(f"Step 1: Look.\n\n{THINK} {RATIONALE}\n\nTherefore, the answer is")
    assert outcome.steps == ("Step 1: Look.", f"{THINK} {RATIONALE}", "Therefore, the answer is 11.")


def test_given_steps_that_conclude_need_no_call() -> None:
    policy = writer("11.")
    outcome = think(policy, asked=replace(question(), history=("Step 1: To sum up, the final answer is: 4.",)))
    assert (outcome.answer, policy.asked) == ("4", [])
