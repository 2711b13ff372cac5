"""The beam of decreasing width against its definition on random trees."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from typing import Literal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from atomthink_plugin.api import Aggregate, AtomThinkError
from atomthink_plugin.formats.steps import SEPARATOR
from atomthink_plugin.searches.annealed_beam import annealed_beam
from atomthink_plugin.searches.beam import beam
from atomthink_plugin.testing import ScriptedScorer, history_of
from tests.searches.scripted_replies import ScriptedReplies
from tests.searches.test_searches import aggregates, solve
from tests.trees import Grove, groves, question_tree, settings, tree_of


def naive(grove: Grove, widths: list[int], candidates: int, aggregate: str) -> str:
    """The definition, level by level on plain strings: level k extends `widths[k]` paths."""

    def rank(history: str) -> tuple[float, float]:
        return grove.value(history, aggregate), grove.logprob(history)

    pool: list[str] = []
    live, step = [""], 0
    while live and len(pool) < widths[step]:
        samples = candidates * (1 if step else widths[0])
        children = []
        for history in live:
            options = list(grove.tree[history])
            drawn = dict.fromkeys(options[i % len(options)] for i in range(samples))
            children += [SEPARATOR.join(filter(None, [history, text])) for text in drawn]
        step += 1
        kept = sorted(children, key=rank, reverse=True)[: widths[step]]
        pool += [history for history in kept if history in grove.answers]
        live = [history for history in kept if history not in grove.answers]
    return max(pool or live, key=rank)


@given(
    groves(depth=4),
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(1, 3),
    st.sampled_from([0, 0.5, 1, 2]),
    aggregates,
)
def test_it_equals_its_definition(
    grove: Grove, beams: int, narrowest: int, candidates: int, drop: float, aggregate: Aggregate
) -> None:
    assume(narrowest <= beams)
    ranks = [(grove.value(history, aggregate), grove.logprob(history)) for history in grove.scores]
    assume(len(set(ranks)) == len(ranks))  # with equal ranks several outcomes are right
    widths = [max(narrowest, math.ceil(beams - drop * step)) for step in range(6)]
    search = annealed_beam(beams, narrowest, candidates, drop, aggregate)
    choice = solve(search, tree_of(grove, exhaustive=True))
    assert history_of(choice.path) == naive(grove, widths, candidates, aggregate)


@pytest.mark.parametrize("constant", [{"narrowest": 2}, {"drop": 0.0}])
@given(grove=groves(depth=4), seed=st.integers(0, 99), aggregate=aggregates)
def test_a_constant_schedule_is_a_beam(
    constant: dict[Literal["narrowest", "drop"], float], grove: Grove, seed: int, aggregate: Aggregate
) -> None:
    annealed, plain = tree_of(grove, seed=seed), tree_of(grove, seed=seed)
    choice = solve(annealed_beam(2, candidates=3, aggregate=aggregate, **constant), annealed)  # type: ignore[arg-type]
    assert choice.path.key == solve(beam(2, 3, aggregate), plain).path.key
    nodes = annealed.outcome(choice).nodes
    assert [replace(node, note="") for node in nodes] == list(plain.outcome(choice).nodes)


def test_a_step_costs_its_width_times_the_candidates() -> None:
    texts = [f"Step {k}: Take the road {k}." for k in range(1, 8)]
    last = "Step 8: To sum up, the final answer is: 1."
    fork = {SEPARATOR.join(texts[:k]): {text: 1.0} for k, text in enumerate([*texts, last])}
    scores = {SEPARATOR.join([*texts, last][:k]): 0.5 for k in range(1, 9)}
    tree = tree_of(Grove(fork, scores, {}))
    asyncio.run(annealed_beam(4, 1, 3)(tree))
    # One distinct path, so that one path is extended after the first step.
    assert tree.usage.policy_calls == 4 * 3 + 7 * 3


@pytest.mark.parametrize(
    ("drop", "widths"), [(0.5, [4, 4, 3, 3, 2, 2]), (0.4, [4, 4, 4, 3, 3, 2]), (1, [4, 3, 2, 2, 2, 2])]
)
def test_the_width_of_each_step_is_rounded_up(drop: float, widths: list[int]) -> None:
    policy = ScriptedReplies(
        lambda prompt, index, seed: f"Step {len(prompt.begun) + 1}: Take the road {index} of {len(policy.asked)}."
    )
    tree = question_tree(policy, ScriptedScorer(lambda history: 0.5), limits=settings(max_steps=6))
    solve(annealed_beam(4, 2, 3, drop), tree)
    extended = [{prompt.prefix for prompt in policy.asked if prompt.depth == step} for step in range(6)]
    assert [len(paths) for paths in extended] == [1, *widths[1:]]
    assert [sum(prompt.depth == step for prompt in policy.asked) for step in range(6)] == [
        3 * width for width in widths
    ]


def test_the_rank_of_each_candidate_and_the_width_are_noted() -> None:
    letters = dict(zip("abc", (0.2, 0.9, 0.5), strict=True))
    tree = {"": {f"Step 1: The final answer is: {letter}.": 0.3 for letter in letters}}
    scores = {text: letters[text[-2]] for text in tree[""]}
    grown = tree_of(Grove(tree, scores, {}), exhaustive=True)
    nodes = grown.outcome(solve(annealed_beam(3, 1, 1), grown)).nodes
    assert {node.answer: node.note for node in nodes} == {
        "b": "rank 1 of 3, kept 2",
        "c": "rank 2 of 3, kept 2",
        "a": "rank 3 of 3, kept 2",
    }


def test_the_beam_must_not_widen() -> None:
    with pytest.raises(AtomThinkError, match="narrowest"):
        annealed_beam(beams=2, narrowest=3)


def test_ties_go_to_the_path_that_is_likelier_by_token() -> None:
    """The long step is less likely as a whole, and likelier by token."""
    short, long = (
        "Step 1: The final answer is: 1.",
        "Step 1: After all bars of the chart, the final answer is: 2.",
    )
    grove = Grove({"": {short: 0.6, long: 0.4}}, {short: 0.5, long: 0.5}, {short: "1", long: "2"})
    for search in (annealed_beam(1, 1, 2), beam(1, 2)):
        assert solve(search, tree_of(grove, exhaustive=True)).path.answer == "2"
    assert naive(grove, [1, 1], 2, "last") == long
