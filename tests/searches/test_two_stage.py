"""Rationale and answer as two inferences, on scripted models."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from PIL import Image

from atomthink_plugin.api import AtomThinkError, Format, Message, Outcome, Prompt, Question, QuestionError
from atomthink_plugin.formats.atomic import Atomic
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.formats.stages import STAGES, Stages
from atomthink_plugin.formats.thoughts import Thoughts
from atomthink_plugin.plugins.arguments import bind, parameters
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


EVERY_CONTROL = [
    {"order": order, "stages": stages} for order in ("rationale_first", "answer_first") for stages in (1, 2)
]


def control(
    policy: ScriptedReplies, answer: ScriptedReplies, asked: Question | None = None, **arguments: Any
) -> Outcome:
    limits = settings(**{key: arguments.pop(key) for key in ("budget_calls",) if key in arguments})
    format = arguments.pop("format", Continue())
    tree = question_tree(policy, format=format, limits=limits, answer=answer, asked=asked)
    return tree.outcome(asyncio.run(two_stage(**arguments)(tree)))


def seen(image: Image.Image) -> Question:
    """A question of two turns, one of them an image alone, whose text also writes a placeholder."""
    return Question("q", (Message("user", (image,)), Message("user", ("What is in <image 1>?", image, "Count."))))


def test_an_answer_without_a_step_before_it_is_kept() -> None:
    policy, answer = answers("Step 1: To sum up, the final answer is: 28."), answers("The final answer is: 99.")
    outcome = control(policy, answer)
    assert (outcome.answer, outcome.stopped, answer.asked) == ("28", "final", [])


@given(groves())
def test_one_stage_is_the_quick_chain(grove: Grove) -> None:
    tree = question_tree(ScriptedPolicy(grove.tree))
    chain = tree.outcome(asyncio.run(quick()(tree)))
    answer = answers("Step 9: To sum up, the final answer is: 99.")
    tree = question_tree(ScriptedPolicy(grove.tree), answer=answer)
    outcome = tree.outcome(asyncio.run(two_stage(stages=1)(tree)))
    assert (outcome.text, outcome.steps, outcome.answer) == (chain.text, chain.steps, chain.answer)
    assert outcome.nodes == chain.nodes
    assert answer.asked == []


@pytest.mark.parametrize("rationale", ["Because red is 4.", "No: the final answer is: 12.", ""])
def test_answer_first_asks_the_answer_before_the_rationale_which_does_not_change_it(rationale: str) -> None:
    policy, answer = answers(rationale), answers("The final answer is: 28.")
    outcome = control(policy, answer, order="answer_first")
    assert (outcome.answer, outcome.stopped) == ("28", "final")
    (alone,), (explain,) = answer.asked, policy.asked
    assert "What is q?" in text_of(alone)
    assert "The final answer is: 28." not in text_of(alone)
    assert "The final answer is: 28." in text_of(explain)
    assert outcome.steps == ("The final answer is: 28.", *filter(None, [rationale]))
    assert outcome.text.endswith("The final answer is: 28.")
    assert [(node.use, node.role, node.answer) for node in sorted(outcome.nodes, key=lambda node: node.use)] == [
        ("answer", "answer", "28"),
        ("rationale", "policy", None),
    ]


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("The final answer is: 28.\n\nRed is 4. Were it 5, the final answer is: 35.", "28"),
        ("28", "28"),
        ("Red is 4.\n\nThe final answer is: 28.", "28"),
        ("", None),
    ],
)
def test_one_reply_that_begins_with_the_answer(reply: str, answer: str | None) -> None:
    policy, other = answers(reply), answers("The final answer is: 99.")
    outcome = control(policy, other, order="answer_first", stages=1)
    assert outcome.answer == answer
    assert outcome.stopped == ("final" if reply else "invalid")
    assert outcome.steps == ((reply,) if reply else ())
    assert (len(policy.asked), len(other.asked)) == (1, 0)


def answer_or_stage(prompt: Prompt, index: int, seed: int) -> str:
    """An answer, with the end tag of the stage that the prompt begins."""
    last = str(prompt.begun[-1]) if prompt.begun else ""
    return f"Step 1: The final answer is: 28. {last.replace('<', '</') if last.startswith('<') else ''}"


@pytest.mark.parametrize("arguments", EVERY_CONTROL)
@pytest.mark.parametrize("format", [Continue(), Atomic(), Stages(), Thoughts()])
def test_blind_prompts_hold_no_image_and_all_text(format: Format, arguments: dict[str, Any]) -> None:
    image, runs = Image.new("RGB", (2, 2)), []
    for blind in (False, True):
        # Also a stage, which ends with the end tag of the start tag that the prompt ends with.
        model = ScriptedReplies(
            lambda prompt, index, seed: f"The answer is 28. {prompt.prefix.replace('<', '</')[-13:]}"
        )
        control(model, model, seen(image), format=format, blind=blind, **arguments)
        runs.append(model.asked)
    sighted, blinded = runs
    assert len(sighted) == len(blinded) > 0
    assert {len(prompt.images) for prompt in sighted} == {2}
    assert {len(prompt.images) for prompt in blinded} == {0}
    assert [text_of(prompt) for prompt in blinded] == [text_of(prompt) for prompt in sighted]
    assert all("<image 1>" in text_of(prompt) and all(turn.parts for turn in prompt.messages) for prompt in blinded)


@pytest.mark.parametrize("arguments", EVERY_CONTROL)
def test_blind_changes_nothing_where_there_is_no_image(arguments: dict[str, Any]) -> None:
    def model() -> ScriptedReplies:
        return thinker() if arguments["order"] == "rationale_first" else answers("28")

    outcomes = [control(model(), answers("28"), blind=blind, **arguments) for blind in (False, True)]
    assert outcomes[0].nodes == outcomes[1].nodes


def test_an_image_without_text_cannot_be_asked_blind() -> None:
    asked = Question("q", (Message("user", (Image.new("RGB", (2, 2)),)),))
    with pytest.raises(QuestionError, match="blind"):
        control(thinker(), answers("28"), asked, blind=True)


@pytest.mark.parametrize("arguments", EVERY_CONTROL)
@pytest.mark.parametrize("blind", [False, True])
@pytest.mark.parametrize("calls", [1, 2, 3])
def test_no_control_exceeds_its_budget(arguments: dict[str, Any], blind: bool, calls: int) -> None:
    model = ScriptedReplies(
        lambda prompt, index, seed: next((step for step in STEPS if step not in text_of(prompt)), STEPS[2])
    )
    outcome = control(model, model, seen(Image.new("RGB", (2, 2))), budget_calls=calls, blind=blind, **arguments)
    assert outcome.usage.policy_calls <= calls
    assert len(model.asked) == outcome.usage.policy_calls


@pytest.mark.parametrize("arguments", EVERY_CONTROL)
def test_given_steps_are_in_every_prompt_and_a_given_answer_is_kept(arguments: dict[str, Any]) -> None:
    asked = Question("q", (Message("user", ("What is q?",)),), history=STEPS[:1])
    model = answers("Step 2: To sum up, the final answer is: 28.")
    outcome = control(model, model, asked, **arguments)
    assert outcome.answer == "28"
    assert outcome.steps[0] == STEPS[0]
    assert all(STEPS[0] in text_of(prompt) for prompt in model.asked)
    model = answers("The final answer is: 99.")
    outcome = control(model, model, Question("q", asked.messages, history=STEPS), **arguments)
    assert (outcome.answer, model.asked) == ("28", [])


@pytest.mark.parametrize(
    ("typed", "bound"),
    [
        (
            {"order": "answer_first", "stages": "1", "blind": "True"},
            {"order": "answer_first", "stages": 1, "blind": True},
        ),
        ({}, {}),
    ],
)
def test_the_controls_are_typed(typed: dict[str, Any], bound: dict[str, Any]) -> None:
    assert bind(two_stage, typed, parameters(two_stage), "search=two_stage") == bound


@pytest.mark.parametrize("typed", [{"stages": 3}, {"stages": 0}, {"order": "answer"}, {"blind": "maybe"}])
def test_other_values_are_refused(typed: dict[str, Any]) -> None:
    with pytest.raises(AtomThinkError, match=next(iter(typed))):
        bind(two_stage, typed, parameters(two_stage), "search=two_stage")
