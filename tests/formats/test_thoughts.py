"""The format `thoughts`: all reasoning in one tagged unit, then the answer."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from atomthink_plugin.api import Message, Outcome, Path, Prompt, Question, Search, Step
from atomthink_plugin.formats.thoughts import THOUGHTS_INSTRUCTION, Thoughts, bare
from atomthink_plugin.searches.best_of_n import best_of_n
from atomthink_plugin.searches.quick import quick
from atomthink_plugin.searches.two_stage import two_stage
from atomthink_plugin.testing import ScriptedScorer
from tests.searches.scripted_replies import ScriptedReplies
from tests.trees import question, question_tree, settings

REASONING = "Red is 4.\n\nBlue is 7. If the answer is a sum, the final answer is: 11.\n\n4 x 7 = 28."


def tuned(prompt: Prompt, index: int, seed: int) -> str:
    """Writes what the prompt leads to, and goes on where nothing stops it."""
    return " 28.\n\nI am sure." if prompt.prefix.endswith("answer is:") else f" {REASONING} </thoughts>\n\nSo 28."


def think(
    policy: ScriptedReplies, search: Search | None = None, format: Thoughts | None = None, **limits: int
) -> Outcome:
    tree = question_tree(
        policy,
        ScriptedScorer(lambda history: 0.5),
        format=format or Thoughts(),
        limits=settings(**limits),
        answer=policy,
    )
    return tree.outcome(asyncio.run((search or quick())(tree)))


@pytest.mark.parametrize("search", [quick(), best_of_n(n=2), two_stage()])
@pytest.mark.parametrize("stops", [True, False])
def test_the_thoughts_are_one_unit_and_the_answer_follows(search: Search, stops: bool) -> None:
    outcome = think(ScriptedReplies(tuned, stops=stops), search)
    thoughts = f"<thoughts> {REASONING} </thoughts>"
    assert outcome.steps[0] == thoughts
    assert outcome.text.startswith(f"{thoughts}\n\nThe final answer is: 28.")
    assert (outcome.answer, outcome.stopped) == ("28", "final")
    assert Thoughts().answer(outcome.text) == "28"


def test_a_prompt_leads_to_its_unit_and_begins_as_the_one_before() -> None:
    policy = ScriptedReplies(tuned)
    think(policy, format=Thoughts(thoughts_tokens=77))
    first, second = policy.asked
    assert (first.prefix, first.stops) == ("<thoughts>", ("</thoughts>",))
    assert second.prefix == f"<thoughts> {REASONING} </thoughts>\n\nThe final answer is:"
    assert [sampling.max_tokens for sampling in policy.samplings] == [77, settings().sampling.max_tokens]
    for earlier, later in pairwise(policy.asked):
        assert later.messages == earlier.messages
        assert later.begun[: len(earlier.begun)] == earlier.begun
    assert first.messages[-1].parts == (*question().messages[-1].parts, f"\n{THOUGHTS_INSTRUCTION}")


@pytest.mark.parametrize("reply", ["Red is 4. The final answer is: 4.", "word " * 60])
def test_thoughts_without_an_end_tag_are_used_and_closed_before_the_answer(reply: str) -> None:
    def write(prompt: Prompt, index: int, seed: int) -> str:
        return "28" if prompt.prefix.endswith("answer is:") else reply

    policy = ScriptedReplies(write)
    outcome = think(policy, format=Thoughts(thoughts_tokens=50))
    kept = " ".join(reply.split(" ")[:50]).strip()
    assert outcome.steps == (f"<thoughts> {kept}", "The final answer is: 28")
    assert outcome.answer == "28"
    assert policy.asked[1].prefix == f"<thoughts> {kept} </thoughts>\n\nThe final answer is:"


@pytest.mark.parametrize("empty", ["", "</thoughts>"])
def test_empty_thoughts_are_sampled_again(empty: str) -> None:
    replies = iter([empty])
    outcome = think(ScriptedReplies(lambda prompt, index, seed: next(replies, tuned(prompt, index, seed))))
    assert outcome.answer == "28"
    assert [node.rejected for node in outcome.nodes if node.rejected] == ["empty"]


def test_given_thoughts_are_not_written_again() -> None:
    asked = Question("q", (Message("user", ("What is q?",)),), history=(f"<thoughts> {REASONING} </thoughts>",))
    policy = ScriptedReplies(tuned)
    tree = question_tree(policy, format=Thoughts(), asked=asked)
    assert tree.outcome(asyncio.run(quick()(tree))).answer == "28"
    assert len(policy.asked) == 1


def test_a_given_step_without_tags_is_kept_as_it_is() -> None:
    path = Path(question()).extend(Step("Step 1: 4 > 3."))
    assert Thoughts().render(path).prefix == "Step 1: 4 > 3.\n\nThe final answer is:"
    assert Thoughts().answer("Step 1: 4 > 3.") is None


@pytest.mark.parametrize("text", ["<thoughts> Red is 4. </thoughts>", " <thoughts> Red is 4.", "Red is 4."])
def test_bare_thoughts_have_no_tags(text: str) -> None:
    assert bare(text) == "Red is 4."
