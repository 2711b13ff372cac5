"""Every search against brute force on scripted trees."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from statistics import fmean

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from atomthink_plugin.api import Aggregate, Choice, Path, Search
from atomthink_plugin.formats.steps import SEPARATOR
from atomthink_plugin.runtime.tree import QuestionTree
from atomthink_plugin.searches.beam import beam
from atomthink_plugin.searches.best_of_n import best_of_n
from atomthink_plugin.searches.greedy import greedy
from atomthink_plugin.searches.majority import majority
from atomthink_plugin.searches.quick import quick
from atomthink_plugin.searches.weighted import weighted
from atomthink_plugin.testing import history_of
from tests.trees import Grove, groves, tree_of

AGGREGATES = ("last", "min", "mean", "prod", "log_odds")
aggregates = st.sampled_from(AGGREGATES)


def solve(search: Search, tree: QuestionTree) -> Choice:
    async def main() -> Choice:
        return await search(tree)

    return asyncio.run(main())


def rollouts(tree: QuestionTree, n: int) -> list[Path]:
    return asyncio.run(tree.rollouts(n))


@given(groves(), aggregates)
def test_a_wide_beam_finds_the_best_path_of_the_whole_tree(grove: Grove, aggregate: Aggregate) -> None:
    choice = solve(beam(len(grove.answers), grove.width, aggregate), tree_of(grove, exhaustive=True))
    best = max(grove.value(leaf, aggregate) for leaf in grove.answers)
    assert choice.value == pytest.approx(best)
    assert grove.value(history_of(choice.path), aggregate) == pytest.approx(best)
    assert choice.stopped == "final"


def naive_beam(grove: Grove, beams: int, candidates: int, aggregate: str, stop: str) -> float:
    """The definition, level by level on plain strings."""
    pool: list[str] = []
    live = [""]
    while live and len(pool) < (beams if stop == "pool" else 1):
        children = []
        for history in live:
            count = beams * candidates if history == "" else candidates
            options = list(grove.tree[history])
            drawn = dict.fromkeys(options[i % len(options)] for i in range(count))
            children += [SEPARATOR.join(filter(None, [history, text])) for text in drawn]
        children.sort(key=lambda h: (grove.value(h, aggregate), grove.logprob(h)), reverse=True)
        kept = children[:beams]
        pool += [h for h in kept if h in grove.answers]
        live = [h for h in kept if h not in grove.answers]
    return max(grove.value(h, aggregate) for h in pool or live)


@pytest.mark.slow
@settings(max_examples=200)
@given(
    groves(depth=4),
    st.integers(1, 3),
    st.integers(1, 3),
    aggregates,
    st.sampled_from(["pool", "first_final"]),
)
def test_a_narrow_beam_equals_its_definition(
    grove: Grove, beams: int, candidates: int, aggregate: Aggregate, stop: str
) -> None:
    ranks = [(grove.value(h, aggregate), grove.logprob(h)) for h in grove.scores]
    assume(len(set(ranks)) == len(ranks))  # with equal ranks several outcomes are right
    choice = solve(beam(beams, candidates, aggregate, stop), tree_of(grove, exhaustive=True))  # type: ignore[arg-type]
    assert choice.value == pytest.approx(naive_beam(grove, beams, candidates, aggregate, stop))


@given(groves())
def test_greedy_takes_the_best_scored_step_at_every_level(grove: Grove) -> None:
    choice = solve(greedy(grove.width), tree_of(grove, exhaustive=True))
    history = ""
    while history not in grove.answers:
        options = [SEPARATOR.join(filter(None, [history, text])) for text in grove.tree[history]]
        top = max(grove.scores[option] for option in options)
        history = next(h for h in options if history_of(choice.path).startswith(h))
        assert grove.scores[history] == top


@given(groves(), st.integers(1, 8), aggregates, st.integers(0, 99))
def test_best_of_n_keeps_the_path_with_the_best_aggregate(
    grove: Grove, n: int, aggregate: Aggregate, seed: int
) -> None:
    choice = solve(best_of_n(n, aggregate), tree_of(grove, seed=seed))
    sampled = [history_of(path) for path in rollouts(tree_of(grove, seed=seed), n)]
    assert history_of(choice.path) in sampled
    assert choice.value == pytest.approx(max(grove.value(history, aggregate) for history in sampled))


@given(groves(), st.integers(1, 12), st.integers(0, 99))
def test_majority_counts_every_path_once_and_breaks_ties_by_likelihood(grove: Grove, n: int, seed: int) -> None:
    choice = solve(majority(n), tree_of(grove, seed=seed))
    votes: dict[str, list[float]] = defaultdict(list)
    for path in rollouts(tree_of(grove, seed=seed), n):
        assert path.answer is not None
        votes[path.answer].append(path.logprob)
    most = max(len(members) for members in votes.values())
    tied = {answer: fmean(m) for answer, m in votes.items() if len(m) == most}
    assert choice.path.answer is not None
    assert tied[choice.path.answer] == pytest.approx(max(tied.values()))
    assert choice.value == pytest.approx(most / n)


@given(groves(), st.integers(1, 12), aggregates, st.integers(0, 99))
def test_weighted_voting_sums_the_aggregates_per_answer(grove: Grove, n: int, aggregate: Aggregate, seed: int) -> None:
    choice = solve(weighted(n, aggregate), tree_of(grove, seed=seed))
    votes: Counter[str] = Counter()
    for path in rollouts(tree_of(grove, seed=seed), n):
        votes[str(path.answer)] += grove.value(history_of(path), aggregate)  # type: ignore[assignment]
    assert votes[str(choice.path.answer)] == pytest.approx(max(votes.values()))


@given(groves(), st.integers(0, 99))
def test_quick_is_the_first_rollout_and_greedy_decoding_follows_the_likeliest_steps(grove: Grove, seed: int) -> None:
    sampled = solve(quick(), tree_of(grove, seed=seed))
    assert history_of(sampled.path) == history_of(rollouts(tree_of(grove, seed=seed), 5)[0])
    likeliest = solve(quick(), tree_of(grove, temperature=0.0))  # type: ignore[arg-type]
    history = ""
    for step in likeliest.path.steps:
        assert step.text == max(grove.tree[history], key=lambda text: grove.tree[history][text])
        history = SEPARATOR.join(filter(None, [history, step.text]))


@given(groves(), st.integers(1, 6), st.integers(1, 6), st.integers(0, 99))
def test_fewer_rollouts_are_the_beginning_of_more(grove: Grove, few: int, more: int, seed: int) -> None:
    first = [history_of(path) for path in rollouts(tree_of(grove, seed=seed), few)]
    longer = [history_of(path) for path in rollouts(tree_of(grove, seed=seed), few + more)]
    assert longer[:few] == first


def test_rollouts_that_share_a_step_part_ways_again() -> None:
    coin = {"Step 2: The final answer is: 0.": 0.5, "Step 2: The final answer is: 1.": 0.5}
    grove = Grove({"": {"Step 1: Toss a coin.": 1.0}, "Step 1: Toss a coin.": coin}, {}, {})
    answers = Counter(path.answer for path in rollouts(tree_of(grove), 400))
    assert 150 < answers["0"] < 250  # 5 standard deviations around 200


@pytest.mark.slow
@given(groves(), st.integers(1, 12), st.integers(0, 99))
def test_the_tree_counts_how_often_each_step_was_drawn(grove: Grove, n: int, seed: int) -> None:
    tree = tree_of(grove, seed=seed)
    choice = solve(majority(n), tree)
    nodes = tree.outcome(choice).nodes
    drawn: Counter[str] = Counter()
    for path in rollouts(tree_of(grove, seed=seed), n):
        node: Path | None = path
        while node is not None and node.step is not None:
            drawn[node.key] += 1
            node = node.parent
    assert {node.id: node.multiplicity for node in nodes} == dict(drawn)


def test_without_a_conclusion_the_vote_returns_a_chain_and_not_the_empty_root() -> None:
    tree = {"": {"Step 1: Look.": 0.5, "": 0.5}, "Step 1: Look.": {"": 1.0}}
    tree = tree_of(Grove(tree, {}, {}), exhaustive=True, retries=0)
    assert [step.text for step in solve(majority(4), tree).path.steps] == ["Step 1: Look."]
