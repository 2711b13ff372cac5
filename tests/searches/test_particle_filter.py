"""Particle filtering: unbiased resampling, and equality with a naive twin on random trees."""

from __future__ import annotations

import asyncio
from collections import Counter
from fractions import Fraction
from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atomthink_plugin.api import Aggregate, Path
from atomthink_plugin.runtime.tree import QuestionTree
from atomthink_plugin.searches.particle_filter import Resampling, _points, particle_filter, resampled
from atomthink_plugin.searches.quick import quick
from atomthink_plugin.testing import ScriptedPolicy, ScriptedScorer
from tests.searches.test_searches import aggregates, solve
from tests.trees import Grove, groves, question_tree, settings, tree_of

kinds = st.sampled_from(["systematic", "multinomial"])


def with_odds(shares: list[int]) -> list[float]:
    """Values whose odds are proportional to the shares."""
    return [share / (share + 1) for share in shares]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(1, 8))
def test_systematic_resampling_has_the_expected_counts_exactly(shares: list[int], count: int) -> None:
    total = sum(shares)
    copies: Counter[int] = Counter()
    for j in range(total):  # the counts are constant between multiples of 1 / total
        offset = (j + 0.5) / total
        drawn = Counter(resampled(with_odds(shares), [(offset + i) / count for i in range(count)]))
        for i, share in enumerate(shares):
            assert drawn[i] - floor(Fraction(count * share, total)) in (0, 1)
        copies += drawn
    assert [Fraction(copies[i], total) for i in range(len(shares))] == [Fraction(count * s, total) for s in shares]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_a_uniform_point_hits_each_particle_in_proportion_to_its_odds(shares: list[int]) -> None:
    total = sum(shares)
    drawn = Counter(resampled(with_odds(shares), [(j + 0.5) / total for j in range(total)]))
    assert [drawn[i] for i in range(len(shares))] == shares


@pytest.mark.parametrize("kind", ["systematic", "multinomial"])
def test_points_are_uniform_and_differ_between_questions_steps_and_particles(kind: Resampling) -> None:
    points = [point for key in "abcdefgh" for step in range(50) for point in _points(key, step, 5, kind)]
    assert len(set(points)) == len(points) == 2000
    assert points == [point for key in "abcdefgh" for step in range(50) for point in _points(key, step, 5, kind)]
    cells = Counter(floor(10 * point) for point in points)
    assert all(abs(cells[cell] - 200) < 5 * 13.5 for cell in range(10))  # 5 standard deviations


async def twin(tree: QuestionTree, particles: int, kind: Resampling, aggregate: Aggregate) -> tuple[float, str]:
    """One particle after the other, with a walk through their odds for each copy."""
    swarm: list[Path] = [tree.root] * particles
    step = 0
    while True:
        seen: Counter[str] = Counter()
        moved = []
        for path in swarm:
            if path.final:
                moved.append(path)
                continue
            ((child,),) = await tree.expand([path], 1, first=seen[path.key])
            seen[path.key] += 1
            moved.append(child)
        values = [await tree.value(path, aggregate) for path in moved]
        if all(path.final for path in moved):
            best = max(range(particles), key=lambda i: (values[i], moved[i].logprob))
            return values[best], moved[best].key
        clipped = [min(max(value, 1e-6), 1 - 1e-6) for value in values]
        odds = [value / (1 - value) for value in clipped]
        swarm = []
        for point in _points(tree.question.key, step, particles, kind):
            below, i = odds[0], 0
            while below <= point * sum(odds) and i < len(moved) - 1:
                i += 1
                below += odds[i]
            swarm.append(moved[i])
        step += 1


@given(groves(depth=4), st.integers(1, 5), kinds, aggregates, st.integers(0, 99))
def test_it_equals_a_naive_twin(
    grove: Grove, particles: int, kind: Resampling, aggregate: Aggregate, seed: int
) -> None:
    tree, other = tree_of(grove, seed=seed), tree_of(grove, seed=seed)
    choice = solve(particle_filter(particles, kind, aggregate), tree)
    value, key = asyncio.run(twin(other, particles, kind, aggregate))
    assert (choice.value, choice.path.key) == (pytest.approx(value), key)
    assert choice.stopped == "final"
    assert tree.usage == other.usage


@given(groves(depth=4), kinds, st.integers(0, 99))
def test_one_particle_is_a_sampled_chain(grove: Grove, kind: Resampling, seed: int) -> None:
    choice = solve(particle_filter(1, kind), tree_of(grove, seed=seed))
    assert choice.path.key == solve(quick(), tree_of(grove, seed=seed)).path.key


COIN = {f"Step 2: The final answer is: {side}.": 0.5 for side in "01"}


def tossed(good: float, bad: float, kind: Resampling, particles: int = 200) -> dict[str, tuple[int, str]]:
    """Copies and notes by text: half of the particles start with each step."""
    starts = {"Step 1: Good.": good, "Step 1: Bad.": bad}
    tree: dict[str, dict[str, float]] = {"": dict.fromkeys(starts, 0.5)} | dict.fromkeys(starts, COIN)
    scores = starts | {f"{start}\n\n{text}": 0.5 for start in starts for text in COIN}
    grown = tree_of(Grove(tree, scores, {}), exhaustive=False)
    nodes = grown.outcome(solve(particle_filter(particles, kind), grown)).nodes
    texts = {node.id: node.text for node in nodes}
    return {texts.get(node.parent, "") + node.text: (node.multiplicity, node.note) for node in nodes}


def test_copies_of_one_node_draw_different_samples() -> None:
    found = tossed(0.999999, 1e-6, "systematic")
    sides = [found[f"Step 1: Good.{text}"][0] for text in COIN]
    assert sum(sides) == 200  # all particles follow the good start
    assert 65 < sides[0] < 135  # 5 standard deviations around 100


@pytest.mark.parametrize("kind", ["systematic", "multinomial"])
def test_copies_follow_the_odds_and_are_noted(kind: Resampling) -> None:
    found = tossed(0.75, 0.5, kind)
    started = found["Step 1: Good."][0]
    weight = 3 * started / (3 * started + 200 - started)
    copies = sum(found[f"Step 1: Good.{text}"][0] for text in COIN)
    assert abs(copies - 200 * weight) < 5 * (200 * weight * (1 - weight)) ** 0.5  # 5 standard deviations
    assert found["Step 1: Good."][1] == f"weight {weight:.3f}, particles {started}, copies {copies}"


def test_resampling_may_leave_only_finished_particles() -> None:
    """Then the value is that of the particle that answers, not of one that was dropped."""
    tree = {
        "": {"Step 1: Wait.": 0.5, "Step 1: The final answer is: 1.": 0.5},
        "Step 1: Wait.": {"Step 2: The final answer is: 2.": 1.0},
    }
    scores = {"Step 1: Wait.": 0.8, "Step 1: The final answer is: 1.": 0.7}
    scores |= {"Step 1: Wait.\n\nStep 2: The final answer is: 2.": 1.0}
    for i in range(200):
        choice = solve(particle_filter(2, "multinomial"), tree_of(Grove(tree, scores, {}), id=f"q{i}"))
        assert choice.value == {"1": 0.7, "2": 1.0}[choice.path.answer or ""]


def test_a_particle_that_cannot_go_on_is_replaced() -> None:
    tree = {
        "": {"Step 1: Good.": 0.5, "Step 1: Bad.": 0.5},
        "Step 1: Bad.": {"": 1.0},
        "Step 1: Good.": {"Step 2: Look.": 1.0},
        "Step 1: Good.\n\nStep 2: Look.": {"Step 3: The final answer is: 1.": 1.0},
    }
    policy, scorer = ScriptedPolicy(tree), ScriptedScorer(lambda history: 0.5)
    grown = question_tree(policy, scorer, limits=settings(retries=0))
    choice = solve(particle_filter(8), grown)
    assert choice.path.answer == "1"
    assert {node.multiplicity for node in grown.outcome(choice).nodes if node.answer} == {8}


@pytest.mark.parametrize("kind", ["systematic", "multinomial"])
@pytest.mark.parametrize("calls", [8, 11, 20])
def test_a_finished_particle_answers_if_the_budget_ends_all_others(kind: Resampling, calls: int) -> None:
    def steps(history: str) -> dict[str, float]:
        number = history.count("Step ") + 1
        ends = {"Step 1: The final answer is: 1.": 0.5} if number == 1 else {}
        return {f"Step {number}: Look at bar {number}.": 0.5, **ends}

    scorer = ScriptedScorer(lambda history: 0.001 if "answer" in history else 0.999)
    policy = ScriptedPolicy(lambda prompt: steps(prompt.prefix))
    grown = question_tree(policy, scorer, limits=settings(budget_calls=calls))
    choice = solve(particle_filter(8, kind), grown)
    assert (choice.path.answer, choice.stopped, choice.value) == ("1", "final", pytest.approx(0.001))
    # The others went on for as long as the budget lasted: the finished particles were not drawn again.
    assert grown.usage.policy_calls == calls
