"""Self-refinement on scripted drafts and reviews."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atomthink_plugin.api import Outcome, Prompt, QuestionError, ServerError, Step
from atomthink_plugin.searches.quick import quick
from atomthink_plugin.searches.self_refine import self_refine, verdict_of
from tests.searches.scripted_replies import ScriptedReplies
from tests.trees import question, question_tree, settings

WRONG = "The bar is misread. It is wrong."
CORRECT = "All steps check out. It is correct."


def text_of(prompt: Prompt) -> str:
    return "".join(part for turn in prompt.messages for part in turn.parts if isinstance(part, str))


def writer(answers: Sequence[str | None]) -> ScriptedReplies:
    """Draft k, which is asked for after k reviews, is a chain of two steps; without an answer it ends at the first."""

    def write(prompt: Prompt, index: int, seed: int) -> str:
        draft = text_of(prompt).count("Review:")
        if not prompt.begun:
            return f"Step 1: Read the bar of draft {draft}.\n\n"
        answer = answers[draft]
        return "---" if answer is None else f"Step 2: To sum up, the final answer is: {answer}."

    return ScriptedReplies(write)


def critic(reviews: Sequence[str]) -> ScriptedReplies:
    """Says the reviews in turn."""
    left = list(reviews)
    return ScriptedReplies(lambda prompt, index, seed: left.pop(0))


def refine(policy: ScriptedReplies, critic: ScriptedReplies, rounds: int = 3, **limits: int) -> Outcome:
    tree = question_tree(policy, critic=critic, limits=settings(0.0, **limits))
    return tree.outcome(asyncio.run(self_refine(rounds)(tree)))


def chained(prompts: Sequence[Prompt]) -> int:
    """How many drafts were begun."""
    return len([prompt for prompt in prompts if not prompt.begun])


@given(st.integers(1, 5), st.integers(0, 6))
def test_it_stops_at_acceptance_with_the_last_draft(rounds: int, wrong: int) -> None:
    """Brute force: `wrong` reviews call a draft wrong, the next one accepts; each draft states its own number."""
    reviewed: list[str] = []

    def review(prompt: Prompt, index: int, seed: int) -> str:
        reviewed.append(text_of(prompt))
        return WRONG if len(reviewed) <= wrong else CORRECT

    def write(prompt: Prompt, index: int, seed: int) -> str:
        if not prompt.begun:
            return "Step 1: Read the bar."
        return f"Step 2: To sum up, the final answer is: {len(reviewed)}."

    policy = ScriptedReplies(write)
    outcome = refine(policy, ScriptedReplies(review), rounds)
    drafts = min(wrong, rounds) + 1
    assert chained(policy.asked) == drafts
    assert len(reviewed) == min(wrong + 1, rounds)
    assert outcome.answer == str(drafts - 1)
    assert outcome.stopped == "final"
    assert outcome.usage.policy_calls == 2 * drafts + len(reviewed)
    assert [f"the final answer is: {k}." in text for k, text in enumerate(reviewed)] == [True] * len(reviewed)


def test_an_accepted_draft_is_the_quick_chain() -> None:
    outcome = refine(writer(["4"]), critic([CORRECT]))
    tree = question_tree(writer(["4"]), limits=settings(0.0))
    assert outcome.text == tree.outcome(asyncio.run(quick()(tree))).text


def test_a_new_draft_sees_the_question_the_last_draft_and_its_review() -> None:
    policy, reviewer = writer(["4", "5"]), critic([WRONG, CORRECT])
    assert refine(policy, reviewer).answer == "5"
    (review, _), refined = reviewer.asked, next(p for p in policy.asked if "Review:" in text_of(p))
    for prompt in (review, refined):
        assert "What is q?" in text_of(prompt)
        assert "Step 1: Read the bar of draft 0.\n\nStep 2: To sum up, the final answer is: 4." in text_of(prompt)
    assert WRONG in text_of(refined)


@pytest.mark.parametrize("review", ["", "Step 3: 4 + 7 = 11.", "Is the bar read well?"])
def test_a_review_without_a_verdict_replaces_no_draft(review: str) -> None:
    policy = writer(["4", "5"])
    assert refine(policy, critic([review])).answer == "4"
    assert chained(policy.asked) == 1


def test_a_draft_without_an_answer_does_not_replace_one() -> None:
    outcome = refine(writer(["4", None]), critic([WRONG, CORRECT]), rounds=2, retries=0)
    assert (outcome.answer, outcome.stopped) == ("4", "final")
    outcome = refine(writer([None, "5"]), critic([WRONG, CORRECT]), rounds=2, retries=0)
    assert (outcome.answer, outcome.stopped) == ("5", "final")


@pytest.mark.parametrize("calls", range(1, 10))
def test_a_spent_budget_ends_the_search_with_what_it_has(calls: int) -> None:
    outcome = refine(writer(["4", "5"] + ["6"] * 3), critic([WRONG] * 3), budget_calls=calls)
    assert outcome.usage.policy_calls <= calls
    assert outcome.stopped == ("budget" if calls == 1 else "final")
    assert outcome.answer == (None if calls == 1 else "4" if calls < 5 else "5")


@pytest.mark.parametrize("error", [QuestionError("too long"), ServerError("the server is gone")])
def test_a_draft_is_kept_if_the_context_has_no_room_for_its_review(error: QuestionError) -> None:
    drafts = writer(["4"])

    def write(prompt: Prompt, index: int, seed: int) -> str | Step:
        if "Review:" in text_of(prompt):
            raise error
        return drafts.reply(prompt, index, seed)

    if isinstance(error, ServerError):
        with pytest.raises(ServerError):
            refine(ScriptedReplies(write), critic([WRONG]))
    else:
        assert refine(ScriptedReplies(write), critic([WRONG])).answer == "4"


def test_the_policy_reviews_where_it_is_the_critic_and_reviews_are_no_steps() -> None:
    drafts = writer(["4"])
    policy = ScriptedReplies(
        lambda prompt, index, seed: CORRECT if "Review the" in text_of(prompt) else drafts.reply(prompt, index, seed)
    )
    outcome = refine(policy, policy)
    assert [(node.use, node.role) for node in outcome.nodes if node.use] == [("critic", "critic")]
    assert outcome.steps == ("Step 1: Read the bar of draft 0.", "Step 2: To sum up, the final answer is: 4.")


@pytest.mark.parametrize(
    ("review", "verdict"),
    [
        ("It is correct.", "correct"),
        ("Step 2 adds wrongly. **It is wrong.**", "wrong"),
        ("It is not correct.", "wrong"),
        ("it is incorrect", "wrong"),
        ("It is correct that red is 4, but the sum is 11. It is wrong.", "wrong"),
        ("I see no error.", None),
        ("", None),
    ],
)
def test_reviews_accept_or_reject(review: str, verdict: str | None) -> None:
    assert verdict_of(review) == verdict


def test_drafts_and_reviews_have_notes() -> None:
    outcome = refine(writer(["4", "5"]), critic([WRONG, WRONG, "No idea."]))
    reviewed = sorted(node.note for node in outcome.nodes if node.use)
    assert reviewed == ["round 1, verdict wrong", "round 2, verdict wrong", "round 3, verdict none"]
    drafts = sorted((node.note, node.answer) for node in outcome.nodes if node.answer)
    assert drafts == [("draft 1", "4"), ("draft 2", "5"), ("draft 3", "5")]


def test_given_steps_that_conclude_are_not_reviewed() -> None:
    asked = replace(question(), history=("Step 1: To sum up, the final answer is: 4.",))
    policy = critic([])
    tree = question_tree(policy, asked=asked, critic=policy)
    assert tree.outcome(asyncio.run(self_refine()(tree))).answer == "4"
    assert policy.asked == []
