"""Aggregates of step scores against their definitions."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atomthink_plugin.searches.parts.aggregates import AGGREGATES, log_odds
from tests.trees import REDUCE

scores = st.lists(st.floats(0, 1), min_size=1, max_size=30)


@given(scores)
def test_each_aggregate_equals_its_definition_and_lies_among_probabilities(found: list[float]) -> None:
    assert AGGREGATES.keys() == REDUCE.keys()
    for name, reduce in AGGREGATES.items():
        assert reduce(found) == pytest.approx(REDUCE[name](found))
        assert 0 <= reduce(found) <= 1


def test_log_odds_of_a_worked_example() -> None:
    # Odds 4 and 1/9: their product is 4/9, its root 2/3, as a probability 2/5.
    assert AGGREGATES["log_odds"]([0.8, 0.1]) == pytest.approx(0.4)
    assert log_odds(0.8) == pytest.approx(math.log(4))


@given(scores)
def test_mean_log_odds_do_not_depend_on_the_length_and_treat_right_and_wrong_alike(found: list[float]) -> None:
    value = AGGREGATES["log_odds"](found)
    assert AGGREGATES["log_odds"](found * 3) == pytest.approx(value)
    assert AGGREGATES["log_odds"]([1 - score for score in found]) == pytest.approx(1 - value)


def test_a_certain_step_does_not_decide_alone() -> None:
    assert AGGREGATES["log_odds"]([0.0, *[0.999] * 5]) > 0.5
    assert AGGREGATES["log_odds"]([1.0, *[0.001] * 5]) < 0.5
