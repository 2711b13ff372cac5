"""Lookahead against its definition on random trees."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from atomthink_plugin.api import Aggregate, Prompt
from atomthink_plugin.formats.steps import SEPARATOR
from atomthink_plugin.searches.beam import beam
from atomthink_plugin.searches.lookahead import lookahead
from atomthink_plugin.testing import ScriptedScorer, history_of
from tests.searches.scripted_replies import ScriptedReplies
from tests.searches.test_searches import aggregates, solve
from tests.trees import Grove, groves, question_tree, tree_of


def ahead(grove: Grove, history: str, depth: int) -> str:
    """The end of a rollout; sample 0 of an exhaustive policy is the first option."""
    for _ in range(depth):
        if history in grove.tree:
            history = SEPARATOR.join(filter(None, [history, next(iter(grove.tree[history]))]))
    return history


def naive(grove: Grove, beams: int, candidates: int, depth: int, aggregate: str) -> float:
    pool: list[str] = []
    live = [""]
    while live and len(pool) < beams:
        children = []
        for history in live:
            options = list(grove.tree[history])[: candidates * (beams if history == "" else 1)]
            children += [SEPARATOR.join(filter(None, [history, text])) for text in options]
        values = {h: grove.value(ahead(grove, h, depth), aggregate) for h in children}
        kept = sorted(children, key=lambda h: (values[h], grove.logprob(h)), reverse=True)[:beams]
        pool += [history for history in kept if history in grove.answers]
        live = [history for history in kept if history not in grove.answers]
    return max(grove.value(history, aggregate) for history in pool)


@given(groves(depth=4), st.integers(1, 3), st.integers(1, 3), st.integers(0, 4), aggregates)
def test_it_equals_its_definition(grove: Grove, beams: int, candidates: int, depth: int, aggregate: Aggregate) -> None:
    values = {history: grove.value(ahead(grove, history, depth), aggregate) for history in grove.scores}
    ranks = [(len(grove.steps_of(history)), value, grove.logprob(history)) for history, value in values.items()]
    assume(len(set(ranks)) == len(ranks))  # with equal ranks several outcomes are right
    choice = solve(lookahead(beams, candidates, depth, aggregate), tree_of(grove, exhaustive=True))
    assert choice.path.final
    assert choice.value == pytest.approx(naive(grove, beams, candidates, depth, aggregate))
    assert choice.value == pytest.approx(grove.value(history_of(choice.path), aggregate))


@given(groves(depth=4), st.integers(1, 3), st.integers(1, 3), st.integers(0, 99), aggregates)
def test_without_depth_it_is_a_beam(grove: Grove, beams: int, candidates: int, seed: int, aggregate: Aggregate) -> None:
    looking, plain = tree_of(grove, seed=seed), tree_of(grove, seed=seed)
    choice = solve(lookahead(beams, candidates, 0, aggregate), looking)
    assert choice == solve(beam(beams, candidates, aggregate), plain)
    assert looking.outcome(choice).nodes == plain.outcome(choice).nodes


FORK = {
    "": {"Step 1: Go left.": 0.6, "Step 1: Go right.": 0.4},
    "Step 1: Go left.": {"Step 2: The final answer is: 1.": 1.0},
    "Step 1: Go right.": {"Step 2: The final answer is: 2.": 1.0},
}
MISLED = {
    "Step 1: Go left.": 0.9,
    "Step 1: Go right.": 0.6,
    "Step 1: Go left.\n\nStep 2: The final answer is: 1.": 0.1,
    "Step 1: Go right.\n\nStep 2: The final answer is: 2.": 0.8,
}


def test_it_avoids_a_step_that_looks_good_and_leads_astray() -> None:
    for depth, answer in ((0, "1"), (1, "2")):
        tree = tree_of(Grove(FORK, MISLED, {}), exhaustive=True)
        choice = solve(lookahead(1, 2, depth), tree)
        assert choice.path.answer == answer


def test_a_rollout_is_the_first_candidate_of_the_next_step() -> None:
    tree = tree_of(Grove(FORK, MISLED, {}), exhaustive=True)
    nodes = {node.text: node for node in tree.outcome(solve(lookahead(1, 2), tree)).nodes}
    assert tree.usage.policy_calls == 2 + 2 + 1  # candidates, their rollouts, the other candidate of the step after
    assert nodes["Step 1: Go left."].note.startswith("lookahead 0.500, steps 1")
    assert nodes["Step 2: The final answer is: 1."].note == ""


def test_a_rollout_answers_when_the_budget_is_spent() -> None:
    tree = tree_of(Grove(FORK, MISLED, {}), exhaustive=True, budget_calls=4)
    choice = solve(lookahead(1, 2), tree)
    assert (choice.path.answer, choice.stopped) == ("2", "final")
    assert choice.value == pytest.approx(0.7)


def test_a_rollout_that_is_drawn_again_is_one_candidate() -> None:
    roads = {"left": (0.9, 0.9, 0.1), "right": (0.5, 0.8, 0.9)}  # the scores of three steps
    tree, scores = {"": {"Step 1: Start.": 1.0}, "Step 1: Start.": dict[str, float]()}, {"Step 1: Start.": 0.5}
    for road, values in roads.items():
        history, texts = "Step 1: Start.", [f"Step 2: Go {road}.", f"Step 3: Walk {road} on."]
        for text, value in zip([*texts, f"Step 4: The final answer is: {road}."], values, strict=True):
            tree.setdefault(history, {})[text] = 0.5
            history = SEPARATOR.join([history, text])
            scores[history] = value
    # Samples 0 and 2 of the second step are equal: were they two candidates, they would fill the beam.
    choice = solve(lookahead(2, 3, 1), tree_of(Grove(tree, scores, {}), exhaustive=True))
    assert choice.path.answer == "right"


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_no_rollout_is_drawn_twice(depth: int) -> None:
    drawn: list[tuple[str, int]] = []

    def reply(prompt: Prompt, index: int, seed: int) -> str:
        drawn.append((prompt.prefix, index))
        number = len(prompt.begun) + 1
        return f"Step {number}: {f'The final answer is {index}' if number == 5 else f'Take road {number}{index}'}."

    tree = question_tree(ScriptedReplies(reply), ScriptedScorer(lambda history: 0.5))
    assert solve(lookahead(2, 3, depth), tree).path.final
    assert len(drawn) == len(set(drawn))
