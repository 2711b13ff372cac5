"""A reasoning agent and a summary agent, on scripted models."""

from __future__ import annotations

import asyncio
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from atomthink_plugin.api import Format, Message, Outcome, Prompt, Question
from atomthink_plugin.config import plan
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.formats.thoughts import THOUGHTS_INSTRUCTION, Thoughts
from atomthink_plugin.searches.reason_summarise import reason_summarise
from atomthink_plugin.testing import ScriptedPolicy
from tests.searches.scripted_replies import ScriptedReplies
from tests.trees import Grove, groves, question, question_tree, settings

REASON = re.compile(r"REASON PROCESS:\n<thoughts>\n(.*?)\n</thoughts>", re.DOTALL)
RESPONSE = re.compile(r"Response \d+:\n(.*?)\n\n(?=Response|Write)", re.DOTALL)


def text_of(prompt: Prompt) -> str:
    return "".join(part for turn in prompt.messages for part in turn.parts if isinstance(part, str))


def reasoning_in(prompt: Prompt) -> str:
    """The reasoning that the summary agent is shown."""
    (found,) = REASON.findall(text_of(prompt))
    return str(found)


def number_in(text: str) -> int:
    return int(re.findall(r"\d+", text)[-1])


def says(text: str) -> ScriptedReplies:
    return ScriptedReplies(lambda prompt, index, seed: text)


def copies() -> ScriptedReplies:
    """A summary agent that repeats what the reasoning comes to."""
    return ScriptedReplies(lambda prompt, index, seed: f"The final answer is: {number_in(reasoning_in(prompt))}.")


def think(
    policy: ScriptedReplies | ScriptedPolicy,
    summary: ScriptedReplies,
    judge: ScriptedReplies | None = None,
    *,
    n: int = 1,
    format: Format | None = None,
    asked: Question | None = None,
    temperature: float = 1.0,
    **limits: int,
) -> Outcome:
    tree = question_tree(
        policy,
        format=format or Thoughts(),
        asked=asked,
        limits=settings(temperature, **limits),
        summary=summary,
        judge=judge or says("I cannot tell."),
    )
    return tree.outcome(asyncio.run(reason_summarise(n)(tree)))


def chain(format: Format, prompt: Prompt, number: int) -> str:
    """A chain that comes to a number, in either format."""
    if isinstance(format, Thoughts):
        return f"Red is 4.\n\nSo it is {number}. </thoughts>"
    return f"Step 2: To sum up, the final answer is: {number}." if prompt.begun else "Step 1: Red is 4.\n\n"


@pytest.mark.parametrize("format", [Thoughts(), Continue()])
def test_a_summary_agent_that_ignores_wrong_chains_is_right_where_it_knows_better(format: Format) -> None:
    """Of 20 chains those of even questions are right. The agent itself can answer all but each fifth question.

    Copying is right 10 times. Ignoring wrong chains adds the odd questions except 5 and 15.
    """

    def right(prompt: Prompt) -> int:
        return 100 + int(re.findall(r"What is q(\d+)\?", text_of(prompt))[0])

    def reason(prompt: Prompt, index: int, seed: int) -> str:
        return chain(format, prompt, right(prompt) if right(prompt) % 2 == 0 else 0)

    def summarise(prompt: Prompt, index: int, seed: int) -> str:
        if number_in(reasoning_in(prompt)) == right(prompt):
            return f"Red is 4. The final answer is: {right(prompt)}."
        return f"The final answer is: {right(prompt) if right(prompt) % 5 else 0}."

    def score(summary: ScriptedReplies) -> int:
        outcomes = [think(ScriptedReplies(reason), summary, format=format, asked=question(f"q{i}")) for i in range(20)]
        return sum(outcome.answer == str(100 + i) for i, outcome in enumerate(outcomes))

    assert score(copies()) == 10
    assert score(ScriptedReplies(summarise)) == 18


def test_two_models_are_asked_what_they_should_be() -> None:
    image = Image.new("RGB", (2, 2))
    asked = Question("q", (Message("user", (image, "How many bars?")),))
    policy, summary = says("Red is 4.\n\nSo 28. </thoughts>"), says("There are eleven. The final answer is: 11.")
    outcome = think(policy, summary, asked=asked, temperature=0.2)
    (reasoned,), (summarised,) = policy.asked, summary.asked
    assert reasoned.images == summarised.images == (image,)
    assert text_of(reasoned) == f"How many bars?\n{THOUGHTS_INSTRUCTION}"
    assert reasoned.prefix == "<thoughts>"
    assert policy.samplings[0].max_tokens == 1024
    assert "QUESTION: How many bars?\n\nREASON PROCESS:\n<thoughts>\n" in text_of(summarised)
    assert reasoning_in(summarised) == "Red is 4.\n\nSo 28."
    assert (summarised.begun, summary.samplings[0].max_tokens, summary.samplings[0].temperature) == ((), 4096, 0.2)
    assert (outcome.answer, outcome.stopped) == ("11", "final")
    assert outcome.steps == (
        "<thoughts> Red is 4.\n\nSo 28. </thoughts>",
        "There are eleven. The final answer is: 11.",
    )
    assert [(node.use, node.role) for node in outcome.nodes if node.use] == [("summary", "summary")]


def test_thoughts_that_were_cut_are_shown_between_their_tags() -> None:
    policy, summary = says("word " * 60), says("The final answer is: 11.")
    assert think(policy, summary, format=Thoughts(thoughts_tokens=50)).answer == "11"
    assert reasoning_in(summary.asked[0]) == " ".join(["word"] * 50)


def test_the_summary_takes_the_place_of_the_conclusion_of_a_chain_of_steps() -> None:
    policy = ScriptedReplies(lambda prompt, index, seed: chain(Continue(), prompt, 28))
    summary = says("Red is 4, blue is 7. The final answer is: 11.")
    outcome = think(policy, summary, format=Continue())
    assert outcome.steps == ("Step 1: Red is 4.", "Red is 4, blue is 7. The final answer is: 11.")
    assert reasoning_in(summary.asked[0]) == "Step 1: Red is 4.\n\nStep 2: To sum up, the final answer is: 28."


@given(groves(), st.integers(1, 6))
def test_an_exact_judge_and_a_copying_summary_find_the_best_chain(grove: Grove, n: int) -> None:
    """Brute force: the same chains, and the one with the highest score of them all."""
    worths = {leaf: 1 + k % 100 for k, leaf in enumerate(sorted(grove.answers))}

    def judge(prompt: Prompt, index: int, seed: int) -> str:
        shown = RESPONSE.findall(text_of(prompt))
        return "\n".join(f"Response {k}: {worths[leaf]}" for k, leaf in enumerate(shown, 1))

    twin = question_tree(ScriptedPolicy(grove.tree))
    leaves = {"\n\n".join(step.text for step in path.steps) for path in asyncio.run(twin.rollouts(n))}
    judging, summary = ScriptedReplies(judge), copies()
    outcome = think(ScriptedPolicy(grove.tree), summary, judging, n=n, format=Continue())
    best = max(leaves, key=lambda leaf: worths[leaf])
    assert reasoning_in(summary.asked[0]) == best
    assert outcome.answer == grove.answers[best]
    assert len(judging.asked) == (len(leaves) > 1)
    assert all(set(RESPONSE.findall(text_of(prompt))) == leaves for prompt in judging.asked)


def test_equal_thoughts_are_one_chain_that_needs_no_judge() -> None:
    policy, judge, summary = says("So 28. </thoughts>"), says("Response 1: 9"), copies()
    assert think(policy, summary, judge, n=4).answer == "28"
    assert (len(policy.asked), len(judge.asked), len(summary.asked)) == (4, 0, 1)


def test_the_judge_decides_which_thoughts_are_summarised_and_the_likelier_ones_are_where_it_does_not() -> None:
    def write(prompt: Prompt, index: int, seed: int) -> str:
        return f"So {index}.{' Sure.' * index} </thoughts>"  # the longer, the likelier by token

    for verdict, shown in (("Response 1: 30\nResponse 2: 90\nResponse 3: 60", 1), ("All are fine.", 2)):
        summary = copies()
        outcome = think(ScriptedReplies(write), summary, says(verdict), n=3)
        assert number_in(reasoning_in(summary.asked[0])) == shown
        (best,) = (node for node in outcome.nodes if node.note.startswith("rank 1 of 3"))
        assert f"So {shown}." in best.text


@pytest.mark.parametrize(
    ("reply", "answer"), [("B", "B"), ("Eleven bars.", "Eleven bars"), ("It is \\boxed{11}.", "11")]
)
def test_a_summary_without_a_statement_is_the_answer(reply: str, answer: str) -> None:
    assert think(says("So 28. </thoughts>"), says(reply)).answer == answer


@pytest.mark.parametrize("format", [Thoughts(), Continue()])
@pytest.mark.parametrize("summary", ["", "word " * 5000])
def test_without_a_whole_summary_the_chain_is_the_reply(format: Format, summary: str) -> None:
    policy = ScriptedReplies(lambda prompt, index, seed: chain(format, prompt, 28))
    outcome = think(policy, says(summary), format=format)
    assert outcome.answer == ("28" if isinstance(format, Continue) else None)
    assert outcome.stopped == ("final" if isinstance(format, Continue) else "invalid")
    assert len(outcome.steps) == (2 if isinstance(format, Continue) else 1)


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("format", [Thoughts(), Continue()])
@pytest.mark.parametrize("calls", range(1, 9))
def test_a_spent_budget_ends_the_search_with_what_it_has(calls: int, format: Format, n: int) -> None:
    policy = ScriptedReplies(lambda prompt, index, seed: chain(format, prompt, index))
    judge, summary = says("Response 1: 9"), says("The final answer is: 11.")
    outcome = think(policy, summary, judge, n=n, format=format, budget_calls=calls)
    assert outcome.usage.policy_calls <= calls
    assert outcome.usage.policy_calls == len(policy.asked) + len(judge.asked) + len(summary.asked)
    assert outcome.steps
    assert outcome.stopped == ("budget" if outcome.answer is None else "final")
    assert bool(summary.asked) == (outcome.answer == "11")


def test_a_given_chain_is_summarised_and_a_given_answer_is_kept() -> None:
    messages = (Message("user", ("What is q?",)),)
    steps = ("Step 1: Red is 4.", "Step 2: To sum up, the final answer is: 28.")
    policy, summary = says(steps[1]), says("The final answer is: 11.")
    outcome = think(policy, summary, format=Continue(), asked=Question("q", messages, history=steps[:1]))
    assert outcome.steps == (steps[0], "The final answer is: 11.")
    assert reasoning_in(summary.asked[0]) == "\n\n".join(steps)
    outcome = think(policy, summary, format=Continue(), asked=Question("q", messages, history=steps))
    assert (outcome.answer, len(policy.asked), len(summary.asked)) == ("28", 1, 1)


RUN = {"pretrained": "a/b", "thinking": "slow", "search": "reason_summarise"}


def test_the_runs_policy_has_the_roles_that_are_not_given() -> None:
    alone = plan("transformers", RUN)
    assert alone.roles == {"summary": alone.policy, "judge": alone.policy}
    assert (alone.search_name, type(alone.format), alone.settings.sampling.temperature) == (
        "reason_summarise",
        Thoughts,
        0.2,
    )


def test_a_second_checkpoint_or_server_has_the_role_that_is_given() -> None:
    second = plan("transformers", {**RUN, "summary_pretrained": "c/d"})
    assert (second.roles["summary"].arguments["pretrained"], second.roles["judge"]) == ("c/d", second.policy)
    served = plan("transformers", {**RUN, "summary_pretrained": "c/d", "summary_base_url": "http://localhost:1/v1"})
    assert served.roles["summary"].kind == "openai"
    assert served.policy.kind == "transformers"
