"""The format `stages`: four tagged stages, whole or rejected, laid out as LLaVA-CoT's data is."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from itertools import pairwise

import pytest

from atomthink_plugin.api import Message, Outcome, Path, Prompt, Question, Search, Step
from atomthink_plugin.formats.stages import STAGES, STAGES_INSTRUCTION, Stages
from atomthink_plugin.searches.beam import beam
from atomthink_plugin.searches.best_of_n import best_of_n
from atomthink_plugin.searches.quick import quick
from atomthink_plugin.testing import ScriptedScorer
from tests.searches.scripted_replies import Replies, ScriptedReplies
from tests.trees import question, question_tree, settings

INNER = {
    "SUMMARY": "I will read both bars and add them.",
    "CAPTION": "A chart with two bars.\n\nRed is 4, blue is 7.",
    "REASONING": "Step 1: red is 4.\n\nStep 2: 4 + 7 = 11.",
    "CONCLUSION": "11",
}
WHOLE_REPLY = "\n\n".join(f"<{stage}> {inner} </{stage}>" for stage, inner in INNER.items())


def stage_of(prompt: Prompt) -> str:
    """The stage that a prompt asks for: its last piece is the start tag."""
    return str(prompt.begun[-1]).strip("<>")


def tuned(inner: Mapping[str, str] = INNER) -> Replies:
    """A model that writes each stage and goes on with the rest of the reply where nothing stops it."""
    return lambda prompt, index, seed: f" {inner[stage_of(prompt)]} </{stage_of(prompt)}>\n\n<CAPTION> more"


def think(
    policy: ScriptedReplies, search: Search, format: Stages | None = None, asked: Question | None = None, **limits: int
) -> Outcome:
    scorer = ScriptedScorer(lambda history: 0.5)
    tree = question_tree(policy, scorer, format=format or Stages(), limits=settings(**limits), asked=asked)
    return tree.outcome(asyncio.run(search(tree)))


@pytest.mark.parametrize("search", [quick(), best_of_n(n=2), beam(beams=2, candidates=2)])
@pytest.mark.parametrize("stops", [True, False])
def test_a_chain_is_laid_out_as_the_published_data(search: Search, stops: bool) -> None:
    outcome = think(ScriptedReplies(tuned(), stops=stops), search)
    assert outcome.text == WHOLE_REPLY
    assert outcome.answer == "11"
    assert outcome.stopped == "final"
    kept = [node for node in outcome.nodes if node.rejected is None]
    assert sorted(node.unit for node in kept) == sorted(STAGES)
    assert all(node.text.startswith(f"<{node.unit}> ") and node.text.endswith(f" </{node.unit}>") for node in kept)


def test_a_stage_is_asked_for_by_its_tag_and_ends_at_its_end_tag() -> None:
    policy = ScriptedReplies(tuned())
    think(policy, quick(), Stages(stage_tokens=33))
    assert [stage_of(prompt) for prompt in policy.asked] == list(STAGES)
    assert [prompt.stops for prompt in policy.asked] == [(f"</{stage}>",) for stage in STAGES]
    assert {sampling.max_tokens for sampling in policy.samplings} == {33}
    assert policy.asked[-1].prefix == WHOLE_REPLY.removesuffix(" 11 </CONCLUSION>")


def test_each_prompt_begins_with_the_pieces_of_the_one_before() -> None:
    policy = ScriptedReplies(tuned())
    think(policy, quick())
    for earlier, later in pairwise(policy.asked):
        assert later.messages == earlier.messages
        assert later.begun[: len(earlier.begun)] == earlier.begun


def test_a_checkpoint_that_knows_the_tags_is_asked_with_the_bare_question() -> None:
    path = Path(question())
    assert Stages(instruction="").render(path).messages == question().messages
    assert Stages().render(path).messages[-1].parts == (*question().messages[-1].parts, f"\n{STAGES_INSTRUCTION}")


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("I will add.", "has no </SUMMARY>"),  # the model ended its turn
        ("word " * 60, "cut at the token limit"),
        (" </SUMMARY>", "empty"),
        ("I will add. <CAPTION> Red. </CAPTION> </SUMMARY>", "holds further tags"),
        ("<SUMMARY> I will add. </SUMMARY>", "holds further tags"),
        ("I will add. </CAPTION>", "has no </SUMMARY>"),
    ],
)
def test_a_stage_that_is_not_whole_is_rejected_with_the_reason(reply: str, reason: str) -> None:
    policy = ScriptedReplies(lambda prompt, index, seed: reply)
    outcome = think(policy, quick(), Stages(stage_tokens=50), retries=2)
    assert (outcome.text, outcome.answer, outcome.stopped) == ("", None, "invalid")
    assert {node.rejected for node in outcome.nodes} == {reason}
    assert len(policy.asked) == 3


def test_a_rejected_stage_is_sampled_again_and_the_chain_continues() -> None:
    replies = iter(["no end", "still none"])

    def reply(prompt: Prompt, index: int, seed: int) -> str:
        return next(replies, None) or tuned()(prompt, index, seed)  # type: ignore[return-value]

    assert think(ScriptedReplies(reply), quick()).text == WHOLE_REPLY


def test_the_chains_limit_ends_a_stage() -> None:
    outcome = think(ScriptedReplies(tuned()), quick(), max_new_tokens=12)
    assert outcome.steps == (f"<SUMMARY> {INNER['SUMMARY']} </SUMMARY>",)
    assert (outcome.answer, outcome.stopped) == (None, "length")


@pytest.mark.parametrize(
    ("inner", "answer"),
    [
        ("11", "11"),
        ("The answer is B.", "B"),
        (r"So the area is \boxed{12}.", "12"),
        ("A red square\nand a circle", "A red square\nand a circle"),
    ],
)
def test_the_conclusion_is_the_answer(inner: str, answer: str) -> None:
    outcome = think(ScriptedReplies(tuned({**INNER, "CONCLUSION": inner})), quick())
    assert outcome.answer == answer
    assert outcome.steps[-1] == f"<CONCLUSION> {inner} </CONCLUSION>"
    assert Stages().answer(outcome.text) == answer


def test_no_other_stage_states_an_answer() -> None:
    reasoning = "So the final answer is: 12."
    outcome = think(ScriptedReplies(tuned({**INNER, "SUMMARY": reasoning, "REASONING": reasoning})), quick())
    assert len(outcome.steps) == len(STAGES)
    assert outcome.answer == "11"


def test_given_stages_are_continued() -> None:
    given = tuple(f"<{stage}> {INNER[stage]} </{stage}>" for stage in STAGES[:2])
    policy = ScriptedReplies(tuned())
    asked = Question("q", (Message("user", ("What is q?",)),), history=given)
    assert think(policy, quick(), asked=asked).text == WHOLE_REPLY
    assert [stage_of(prompt) for prompt in policy.asked] == list(STAGES[2:])


def test_a_given_step_without_tags_is_kept_as_it_is() -> None:
    path = Path(question()).extend(Step("4 > 3 and 5 > 4."))
    assert Stages().render(path).prefix == "4 > 3 and 5 > 4.\n\n<CAPTION>"
