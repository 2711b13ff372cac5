"""The format `arrow`: Fine-tune-CoT's rationale, arrow and answer in one reply."""

from __future__ import annotations

import asyncio

import pytest

from atomthink_plugin.api import Outcome, Question, Search
from atomthink_plugin.formats.arrow import Arrow
from atomthink_plugin.searches.majority import majority
from atomthink_plugin.searches.quick import quick
from atomthink_plugin.testing import ScriptedScorer
from tests.searches.scripted_replies import Replies, ScriptedReplies
from tests.trees import question, question_tree, settings

REPLY = "Red is 4 and blue is 7.\n\n4 + 7 = 11. --> 11 END"


def think(
    replies: Replies, search: Search, asked: Question | None = None, stops: bool = True, **limits: int
) -> Outcome:
    policy, scorer = ScriptedReplies(replies, stops=stops), ScriptedScorer(lambda history: 0.5)
    tree = question_tree(policy, scorer, format=Arrow(reply_tokens=40), limits=settings(**limits), asked=asked)
    outcome = tree.outcome(asyncio.run(search(tree)))
    assert {prompt.stops for prompt in policy.asked} == {(" END",)}
    assert {prompt.messages[-1].parts for prompt in policy.asked} == {
        (*(asked or question()).messages[-1].parts, " ###")
    }
    return outcome


@pytest.mark.parametrize("stops", [True, False])
def test_a_reply_is_one_unit_up_to_its_end(stops: bool) -> None:
    outcome = think(lambda prompt, index, seed: f"{REPLY}\n\nWhat is r? ### No. --> 3 END", quick(), stops=stops)
    assert outcome.steps == (REPLY,)
    assert (outcome.answer, outcome.stopped) == ("11", "final")


def test_a_vote_counts_what_the_arrows_point_to() -> None:
    stated = ["11", "9", "The answer is 11."]
    outcome = think(lambda prompt, index, seed: f"Reading {index}. --> {stated[index]} END", majority(n=3))
    assert outcome.answer == "11"
    assert outcome.value == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("Red is 4, so 11.", "has no -->"),
        ("Red is 4. --> END", "empty"),
        ("word " * 60 + "--> 3 END", "cut at the token limit"),
    ],
)
def test_a_reply_without_an_answer_is_sampled_again(reply: str, reason: str) -> None:
    first = iter([reply])
    outcome = think(lambda prompt, index, seed: next(first, REPLY), quick(), retries=1)
    assert outcome.steps == (REPLY,)
    assert [node.rejected for node in outcome.nodes if node.text != REPLY] == [reason]


def test_a_given_beginning_is_continued() -> None:
    asked = Question("q", question().messages, history=("Red is 4.",))
    outcome = think(lambda prompt, index, seed: f"After {prompt.prefix}4 + 7 = 11. --> 11 END", quick(), asked)
    assert outcome.text == "Red is 4. After Red is 4. 4 + 7 = 11. --> 11 END"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("a --> 3 END", "3"),
        ("a --> b --> 3", "3"),
        ("4 --> 7 is a rise. --> (B) END", "(B)"),
        ("--> WEEKEND", "WEEKEND"),
        ("no arrow END", None),
        ("a -->", None),
    ],
)
def test_the_answer_follows_the_last_arrow(text: str, answer: str | None) -> None:
    assert Arrow().answer(text) == answer
