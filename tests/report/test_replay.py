"""Replayed choices equal those of the searches, subset by subset."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atomthink_plugin.api import Aggregate, Path, Search, Step, Stopped
from atomthink_plugin.report.candidates import Candidate
from atomthink_plugin.report.replay import MAJORITY, MAX_SUBSETS, PASS, Replay, SelectionMethod, methods, subsets
from atomthink_plugin.searches.best_of_n import best_of_n
from atomthink_plugin.searches.majority import majority
from atomthink_plugin.searches.parts.aggregates import AGGREGATES
from atomthink_plugin.searches.weighted import weighted
from tests.trees import question

AGGREGATE_NAMES: list[Aggregate] = list(AGGREGATES)
ANSWERS = [None, "1", "2", "1/2", "0.5", "12", "12 cm", "12 m"]  # the last three: equivalence is not transitive


@dataclass
class Given:
    """A tree with given rollouts, as a search sees them."""

    paths: Sequence[Path]
    scores: dict[str, float]

    async def rollouts(self, n: int) -> list[Path]:
        return list(self.paths[:n])

    async def value(self, path: Path, aggregate: Aggregate) -> float:
        return self.scores[path.steps[0].text]

    def why(self, path: Path) -> Stopped:
        return "final" if path.final else "depth"


@st.composite
def candidates(draw: st.DrawFn) -> list[Candidate]:
    """Few distinct numbers, so that ties are common."""
    drawn = []
    for i in range(draw(st.integers(1, 7))):
        value = draw(st.sampled_from([0.25, 0.5, 1.0]))
        logprob = draw(st.sampled_from([-math.inf, -2.0, -1.0, -0.5]))
        answer = draw(st.sampled_from(ANSWERS))
        values: dict[Aggregate, float] = dict.fromkeys(AGGREGATE_NAMES, value)
        drawn.append(Candidate((str(i),), f"step {i}", answer, logprob, values, draw(st.booleans())))
    return drawn


def search_of(method: SelectionMethod, n: int) -> Search:
    if method.aggregate is None:
        return majority(n)
    return {"weighted": weighted, "best_of_n": best_of_n}[method.search](n, method.aggregate)


def searched(given: Sequence[Candidate], subset: Sequence[int], method: SelectionMethod) -> int:
    """Runs the search on a subset and returns the candidate that it chose."""
    asked = question()
    paths = []
    for i in subset:
        logprob = None if math.isinf(given[i].logprob) else given[i].logprob
        paths.append(Path(asked).extend(Step(f"step {i}", (0,), logprob), given[i].answer))
    tree: Any = Given(paths, {f"step {i}": given[i].values.get("mean", 0.0) for i in subset})
    choice = asyncio.run(search_of(method, len(paths))(tree))
    return int(choice.path.steps[0].text.removeprefix("step "))


@settings(max_examples=60)
@given(candidates(), st.data())
def test_the_choice_from_every_subset_is_that_of_the_search(given: list[Candidate], data: st.DataObject) -> None:
    size = data.draw(st.integers(1, len(given)))
    method = data.draw(
        st.sampled_from([MAJORITY, SelectionMethod("weighted", "mean"), SelectionMethod("best_of_n", "mean")])
    )
    drawn = subsets(len(given), size, "any")
    assert [tuple(row) for row in drawn] == list(combinations(range(len(given)), size))
    expected = [searched(given, subset, method) for subset in combinations(range(len(given)), size)]
    replay = Replay(given)
    assert replay.chosen(method, drawn).tolist() == expected
    assert replay.accuracy(method, drawn) == np.mean([given[i].correct for i in expected])


@given(st.lists(st.booleans(), min_size=1, max_size=9), st.data())
def test_pass_at_n_is_the_unbiased_estimator(right: list[bool], data: st.DataObject) -> None:
    """1 - C(n - c, k) / C(n, k), see Chen et al. (2021)."""
    given = [Candidate((str(i),), str(i), "1", -1.0, {}, verdict) for i, verdict in enumerate(right)]
    k = data.draw(st.integers(1, len(right)))
    expected = 1 - math.comb(len(right) - sum(right), k) / math.comb(len(right), k)
    assert Replay(given).accuracy(PASS, subsets(len(right), k, "any")) == pytest.approx(expected)


@pytest.mark.parametrize("size", [1, 2, 4, 8, 12, 16])
def test_random_subsets_contain_each_candidate_equally_often(size: int) -> None:
    drawn = subsets(16, size, "question")
    assert len(drawn) == min(math.comb(16, size), MAX_SUBSETS)
    assert all(len(set(row)) == size and list(row) == sorted(row) for row in drawn.tolist())
    shares = np.bincount(drawn.ravel(), minlength=16) / drawn.size
    assert shares == pytest.approx(np.full(16, 1 / 16), abs=0.25 / 16)
    assert (subsets(16, size, "question") == drawn).all()


def test_random_subsets_are_nested() -> None:
    for few, many in zip(subsets(16, 6, "q").tolist(), subsets(16, 8, "q").tolist(), strict=True):
        assert set(few) <= set(many)


def test_only_methods_with_known_scores_are_offered() -> None:
    values: list[dict[Aggregate, float]] = [{"last": 0.5}, dict.fromkeys(AGGREGATE_NAMES, 0.5)]
    given = [Candidate(("a",), "a", "1", -1.0, one, True) for one in values]
    assert methods(given) == [MAJORITY, SelectionMethod("weighted", "last"), SelectionMethod("best_of_n", "last"), PASS]
