from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atomthink_plugin.statistics import mcnemar, wilson


@given(st.integers(1, 500), st.data())
def test_the_wilson_interval_solves_its_equation(total: int, data: st.DataObject) -> None:
    right = data.draw(st.integers(0, total))
    for bound in wilson(right, total):
        deviation = abs(right / total - bound)
        assert deviation == pytest.approx(1.959964 * math.sqrt(bound * (1 - bound) / total), abs=1e-6)


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 30))
def test_mcnemar_tosses_a_coin_for_each_question_only_one_gets_right(won: int, lost: int, both: int) -> None:
    first = [True] * won + [False] * lost + [True] * both
    second = [False] * won + [True] * lost + [True] * both
    tail = sum(math.comb(won + lost, k) for k in range(min(won, lost) + 1)) / 2 ** (won + lost)
    assert mcnemar(first, second) == pytest.approx(min(1.0, 2 * tail))
    assert mcnemar(second, first) == pytest.approx(mcnemar(first, second))


def test_nothing_observed_is_no_knowledge() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert mcnemar([True], [True]) == 1.0
