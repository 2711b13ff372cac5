"""Both estimates against brute force: scripted samples, right or wrong as a table says."""

from __future__ import annotations

import asyncio
import math
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atomthink_plugin.training.label.estimators import Rollouts, monte_carlo, omega, right_steps

Table = list[list[bool]]
"""For each prefix, of one step and more, whether its samples reach the right answer."""


def scripted(table: Table, asked: list[tuple[int, int]]) -> Rollouts:
    async def rollouts(kept: int, samples: range) -> int:
        asked.extend((kept, index) for index in samples)
        await asyncio.sleep(0)
        return sum(table[kept - 1][index] for index in samples)

    return rollouts


@st.composite
def tables(draw: st.DrawFn) -> Table:
    n = draw(st.integers(1, 5))
    row = st.lists(st.booleans(), min_size=n, max_size=n)
    return draw(st.lists(row, min_size=1, max_size=12))


@given(prefixes=st.integers(0, 200), right=st.integers(0, 200), n=st.integers(1, 4))
def test_the_first_error_of_a_monotone_chain_is_found_with_few_looks(prefixes: int, right: int, n: int) -> None:
    right = min(right, prefixes)
    asked: list[tuple[int, int]] = []
    table = [[kept <= right] * n for kept in range(1, prefixes + 1)]
    assert asyncio.run(right_steps(prefixes, scripted(table, asked), n)) == right
    looked_at = {kept for kept, _ in asked}
    assert len(looked_at) <= math.ceil(math.log2(prefixes + 1))
    # A right prefix takes one rollout, a wrong one takes all.
    assert len(asked) == sum(1 if kept <= right else n for kept in looked_at)


@given(table=tables())
def test_the_search_ends_between_a_right_prefix_and_a_wrong_one(table: Table) -> None:
    asked: list[tuple[int, int]] = []
    found = asyncio.run(right_steps(len(table), scripted(table, asked), len(table[0])))
    assert found == 0 or any(table[found - 1])
    assert found == len(table) or not any(table[found])
    assert len(set(asked)) == len(asked)
    for kept in {kept for kept, _ in asked}:
        drawn = [index for prefix, index in asked if prefix == kept]
        first = table[kept - 1].index(True) if any(table[kept - 1]) else len(table[0]) - 1
        assert drawn == list(range(first + 1))


@given(values=st.lists(st.floats(0, 1), min_size=3, max_size=3))
def test_noisy_rollouts_err_as_often_as_brute_force_predicts(values: list[float]) -> None:
    n = 2
    chances = [0.0] * 4
    for samples in product([False, True], repeat=3 * n):
        table = [list(samples[i * n : (i + 1) * n]) for i in range(3)]
        chance = math.prod(values[i] if right else 1 - values[i] for i in range(3) for right in table[i])
        chances[asyncio.run(right_steps(3, scripted(table, []), n))] += chance
    one, two, three = (1 - (1 - value) ** n for value in values)  # that a prefix is found right
    assert chances == pytest.approx([(1 - two) * (1 - one), (1 - two) * one, two * (1 - three), two * three])


@given(table=tables())
def test_shares_are_those_of_all_rollouts(table: Table) -> None:
    asked: list[tuple[int, int]] = []
    n = len(table[0])
    shares = asyncio.run(monte_carlo(len(table), None, scripted(table, asked), n))
    assert shares == tuple(sum(row) / n for row in table)
    assert sorted(asked) == [(kept, index) for kept in range(1, len(table) + 1) for index in range(n)]


@pytest.mark.parametrize(("is_right", "prefixes"), [(True, set()), (False, {1, 2}), (None, {2, 3})])
def test_a_chain_that_states_its_answer_needs_no_rollout_after_its_end(
    is_right: bool | None, prefixes: set[int]
) -> None:
    asked: list[tuple[int, int]] = []
    labels = asyncio.run(omega(3, is_right, scripted([[True], [True], [False]], asked), 1))
    assert {kept for kept, _ in asked} == prefixes
    assert labels == ((1.0, 1.0, 1.0) if is_right else (1.0, 1.0, 0.0))
