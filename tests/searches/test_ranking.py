"""List-wise ranking: what a judge's scores are read as, and the order that follows."""

from __future__ import annotations

import asyncio
import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from atomthink_plugin.api import Choice, Message, Path, Prompt, Question, Step
from atomthink_plugin.runtime.tree import QuestionTree
from atomthink_plugin.searches.parts.ranking import rank, scores_in
from tests.searches.scripted_replies import ScriptedReplies
from tests.trees import question, question_tree, settings


@pytest.mark.parametrize(
    ("reply", "scores"),
    [
        ("Response 1: 85\nResponse 2: 40", [85, 40]),
        ("response [2]: 40/100\n**Response 1:** 85 / 100", [85, 40]),
        ("- **Response 1: 85**\n- *Response 2*: 40.", [85, 40]),
        ("| Response 1 | 85 |\n| Response 2 | 40 |", [85, 40]),
        ("Response 1: 85, Response 2: 40", [85, 40]),
        ("Response 1: 85.5 (all steps are right)\nResponse 2: Score: 40 - it misreads the bar", [85.5, 40]),
        ("Response 1: 20\nResponse 2: 40\nOn reflection:\nResponse 1: 85", [85, 40]),
        ("Response 1: 100\nResponse 2: 1", [100, 1]),
        ("Response 1: 101\nResponse 2: 0", [None, None]),
        ("Response 1: 1000\nResponse 2: -5", [None, None]),
        ("Response 3: 85\nResponse 12: 40", [None, None]),
        ("Response 1: 4 + 7 = 11\nResponse 2: 4 bars", [None, None]),
        ("Response 1: [1-100]\nResponse k: 40", [None, None]),
        ("85\n40", [None, None]),
        ("Both are fine.", [None, None]),
        ("", [None, None]),
    ],
)
def test_the_scores_that_a_reply_states(reply: str, scores: list[float | None]) -> None:
    assert scores_in(reply, 2) == scores


def chain(tree: QuestionTree, text: str, logprob: float | None = -1.0) -> Path:
    """A candidate, entered as a search's own policy would have sampled it."""
    written = tree.write(tree.root, text)
    return Path(written.question, tree.root, Step(text, (1,), logprob), name=written.name)


def ranked(scores: list[int | None], logprobs: list[float | None]) -> tuple[list[int], ScriptedReplies, QuestionTree]:
    """The order of candidates whom the judge gives these scores."""
    lines = [f"Response {k}: {score}" for k, score in enumerate(scores, 1) if score is not None]
    judge = ScriptedReplies(lambda prompt, index, seed: "\n".join(reversed(lines)))
    tree = question_tree(judge, judge=judge)
    chains = [chain(tree, f"Candidate {k}.", logprob) for k, logprob in enumerate(logprobs)]
    order = asyncio.run(rank(tree, tree.root, chains, [path.steps[-1].text for path in chains]))
    return [chains.index(path) for path in order], judge, tree


def _likelihood(logprob: float | None) -> float:
    return -math.inf if logprob is None else logprob


@given(st.data(), st.integers(1, 8))
def test_the_order_is_that_of_scores_then_likelihood_then_presentation(data: st.DataObject, count: int) -> None:
    scores = data.draw(st.lists(st.none() | st.integers(1, 4), min_size=count, max_size=count))
    likelihoods = st.none() | st.integers(-3, 0).map(float)
    logprobs = data.draw(st.lists(likelihoods, min_size=count, max_size=count))
    order, _, _ = ranked(scores, logprobs)
    assert sorted(order) == list(range(count))
    for better, worse in pairwise(order):  # naively: no neighbours are in the wrong order
        first, second = ((scores[k] or 0, _likelihood(logprobs[k])) for k in (better, worse))
        assert first > second or (first == second and better < worse)


def test_a_candidate_has_its_rank_and_score_as_a_note() -> None:
    order, _, tree = ranked([40, None, 85], [-1.0, -1.0, -2.0])
    assert order == [2, 0, 1]
    nodes = tree.outcome(Choice(tree.root, 0.0, "final")).nodes
    notes = {node.text: node.note for node in nodes if node.text.startswith("Candidate")}
    assert notes == {
        "Candidate 0.": "rank 2 of 3, score 40",
        "Candidate 1.": "rank 3 of 3",
        "Candidate 2.": "rank 1 of 3, score 85",
    }


def test_one_pass_shows_the_image_the_question_and_all_candidates_in_their_order() -> None:
    image = Image.new("RGB", (2, 2))
    judge = ScriptedReplies(lambda prompt, index, seed: "Response 2: 9")
    asked = Question("q", (Message("user", (image, "How many bars?")),))
    tree = question_tree(judge, judge=judge, asked=asked, limits=settings(0.9))
    chains = [chain(tree, f"Candidate {k}.") for k in "abc"]
    asyncio.run(rank(tree, tree.root, chains, [f"[{path.steps[-1].text}]" for path in chains]))
    (prompt,), (sampling,) = judge.asked, judge.samplings
    assert prompt.images == (image,)
    text = "".join(part for part in prompt.messages[-1].parts if isinstance(part, str))
    assert "How many bars?\n\nResponse 1:\n[Candidate a.]\n\nResponse 2:\n[Candidate b.]\n\nResponse 3:\n[Cand" in text
    assert (sampling.temperature, sampling.max_tokens) == (0.2, 512)


def test_a_spent_budget_leaves_the_likelier_first() -> None:
    judge = ScriptedReplies(lambda prompt, index, seed: "Response 1: 9")
    tree = question_tree(judge, judge=judge, asked=question(), limits=settings(budget_tokens=1))
    chains = [chain(tree, f"Candidate {k}.", -2.0 + k) for k in range(2)]
    asyncio.run(tree.ask(tree.root, Prompt(tree.question.messages), use="spend"))
    assert asyncio.run(rank(tree, tree.root, chains, ["", ""])) == chains[::-1]
    assert len(judge.asked) == 1
