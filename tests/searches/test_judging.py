"""Verdicts over several candidates."""

from __future__ import annotations

import asyncio

import pytest
from PIL import Image

from atomthink_plugin.api import Choice, Message, Outcome, Path, Prompt, Proposal, Sampling, Step
from atomthink_plugin.runtime.tree import QuestionTree
from atomthink_plugin.searches.parts.judging import ballot, named, select
from tests.searches.ballots import candidates_in, mute, text_of
from tests.searches.scripted_replies import ScriptedReplies
from tests.trees import question_tree, settings


@pytest.mark.parametrize(
    ("verdict", "index"),
    [
        ("I choose candidate 2.", 1),
        ("Candidate 1 misreads the bar. I choose **Candidate 3**.", 2),
        ("I choose candidate 1. No, wait: i choose candidate #4", 3),
        ("The best candidate is candidate 2.", 1),
        ("The best candidate is: 3", 2),
        ("Since it is right, I choose response [2].", 1),
        ("2", 1),
        ("[Candidate 2]", 1),
        ("I choose candidate 0.", None),
        ("I choose candidate 5.", None),
        ("I choose candidate 2. Still, I choose candidate 9.", None),
        ("I choose candidate N.", None),
        ("I choose candidate 1/2.", None),
        ("I choose candidate 1.5.", None),
        ("Candidate 1 adds wrongly.", None),
        ("Candidate 2 is better than candidate 1.", None),
        ("The answer is 2.", None),
        ("I choose step 2.", None),
        ("So 4 + 7 = 11, and the best estimate is 2.", None),
        ("", None),
    ],
)
def test_a_verdict_names_a_candidate_or_none(verdict: str, index: int | None) -> None:
    assert named(verdict, 4) == index


def test_a_ballot_shows_the_images_the_question_and_each_candidate_once() -> None:
    image = Image.new("RGB", (1, 1))
    asked = (Message("system", ("Be brief.",)), Message("user", (image, "How many bars?")))
    prompt = ballot(asked, "Decide.", ["Four.\n\nYes.", "Five."], "\n\nSo far: none.")
    assert prompt.images == (image,)
    assert prompt.messages[0] == asked[0]
    assert candidates_in(prompt) == ["Four.\n\nYes.", "Five."]
    places = [text_of(prompt).index(text) for text in ("How many bars?", "So far: none.", "Four.", "Five.")]
    assert places == sorted(places)
    assert not prompt.begun


def selected(
    judge: ScriptedReplies, logprobs: list[float | None], **limits: int
) -> tuple[Path, Outcome, dict[str, str]]:
    """The candidate that is selected of as many as there are log-probabilities, and the notes by text."""
    policy = ScriptedReplies(lambda prompt, index, seed: Step(f"Step 1: Road {index}.", (1,), logprobs[index]))
    tree = question_tree(policy, limits=settings(**limits), judge=judge)

    async def main(tree: QuestionTree) -> Path:
        (children,) = await tree.expand([tree.root], len(logprobs))
        return await select(tree, tree.root, ballot(tree.question.messages, "Decide.", ["x"] * 9), children)

    path = asyncio.run(main(tree))
    outcome = tree.outcome(Choice(path, 0.0, "final"))
    return path, outcome, {node.text: node.note for node in outcome.nodes}


def test_the_named_candidate_is_selected_whatever_its_likelihood() -> None:
    path, outcome, notes = selected(mute("I choose candidate 2."), [-1.0, -9.0, -1.0])
    assert path.steps[-1].text == "Step 1: Road 1."
    assert notes["I choose candidate 2."] == "names 2"
    assert notes["Step 1: Road 1."] == "candidate 2 of 3, chosen by verdict"
    assert notes["Step 1: Road 0."] == "candidate 1 of 3"
    assert outcome.usage.policy_calls == 3 + 1


@pytest.mark.parametrize(
    ("logprobs", "winner"), [([-2.0, -1.0, -1.0], 1), ([None, None, None], 0), ([-2.0, None, -3.0], 0)]
)
@pytest.mark.parametrize("verdict", ["Fine.", "I choose candidate 7."])
def test_without_a_name_the_first_of_the_likeliest_is_selected(
    logprobs: list[float | None], winner: int, verdict: str
) -> None:
    path, _, notes = selected(mute(verdict), logprobs)
    assert path.steps[-1].text == f"Step 1: Road {winner}."
    assert notes[verdict] == "names none"
    assert notes[path.steps[-1].text].endswith("chosen by likelihood")


class FullContext(ScriptedReplies):
    """Has no room for what it is asked."""

    async def propose(self, prompt: Prompt, n: int, sampling: Sampling) -> Proposal:
        assert prompt.depth > 0  # at depth 0 policies raise an error
        return Proposal(())


def test_candidates_that_do_not_fit_in_the_context_are_selected_by_likelihood() -> None:
    path, _, notes = selected(FullContext(lambda prompt, index, seed: ""), [-2.0, -1.0])
    assert path.steps[-1].text == "Step 1: Road 1."
    assert notes["Step 1: Road 1."] == "candidate 2 of 2, chosen by likelihood"


def test_a_verdict_that_the_budget_does_not_pay_for_is_replaced_by_likelihood() -> None:
    judge = mute("I choose candidate 1.")
    path, outcome, _ = selected(judge, [-2.0, -1.0], budget_calls=2)
    assert path.steps[-1].text == "Step 1: Road 1."
    assert (judge.asked, outcome.usage.policy_calls) == ([], 2)


def test_a_single_candidate_is_selected_without_a_verdict() -> None:
    judge = mute()
    path, _, _ = selected(judge, [-2.0])
    assert (path.steps[-1].text, judge.asked) == ("Step 1: Road 0.", [])


def test_the_verdict_is_asked_at_temperature_zero() -> None:
    judge = mute("I choose candidate 1.")
    selected(judge, [-2.0, -1.0])
    assert [sampling.temperature for sampling in judge.samplings] == [0.0]
