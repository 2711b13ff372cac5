from __future__ import annotations

import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atomthink_plugin.accuracy_stats import (
    bootstrap_difference,
    holm,
    mcnemar,
    mean_difference,
    mean_wilson,
    paired_difference,
    wilson,
)


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


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_the_interval_of_shares_is_wilsons_where_they_are_verdicts(verdicts: list[bool]) -> None:
    mean, *ends = mean_wilson([float(verdict) for verdict in verdicts])
    assert mean == pytest.approx(sum(verdicts) / len(verdicts))
    assert ends == pytest.approx(wilson(sum(verdicts), len(verdicts)), abs=1e-9)


@given(st.lists(st.booleans(), min_size=2, max_size=60), st.floats(0.05, 0.95))
def test_shares_that_vary_less_than_verdicts_are_surer(verdicts: list[bool], part: float) -> None:
    """Shrinking all shares toward their mean leaves the mean, and the interval shrinks."""
    shares = [float(verdict) for verdict in verdicts]
    mean, low, high = mean_wilson(shares)
    same, narrower_low, narrower_high = mean_wilson([mean + part * (share - mean) for share in shares])
    assert same == pytest.approx(mean)
    if 0 < mean < 1:
        assert narrower_high - narrower_low < high - low


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_a_paired_difference_is_that_of_the_accuracies_and_mirrors(pairs: list[tuple[bool, bool]]) -> None:
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    difference, low, high = paired_difference(first, second)
    assert difference == pytest.approx((sum(second) - sum(first)) / len(pairs))
    assert -1 <= low < high <= 1
    assert paired_difference(second, first) == pytest.approx((-difference, -high, -low))


def test_the_paired_interval_has_its_nominal_coverage() -> None:
    chance = random.Random(5)
    truth, covered, rounds = 0.1, 0, 1000
    for _ in range(rounds):
        draws = [chance.random() for _ in range(40)]
        first = [draw < 0.3 or 0.5 <= draw < 0.6 for draw in draws]  # loses a tenth of the questions
        second = [draw < 0.5 for draw in draws]  # wins a fifth
        _, low, high = paired_difference(first, second)
        covered += low <= truth <= high
    assert 0.93 <= covered / rounds <= 0.985


def test_the_paired_interval_is_bonett_and_prices() -> None:
    first, second = [True] * 5 + [False] * 15, [False] * 2 + [True] * 9 + [False] * 9
    up, down = 7 / 22, 3 / 22  # 6 won, 2 lost, of 20
    reach = 1.959964 * math.sqrt((up + down - (up - down) ** 2) / 22)
    assert paired_difference(first, second) == pytest.approx((4 / 20, up - down - reach, up - down + reach))


def test_the_interval_of_a_mean_difference_nears_the_textbooks_and_always_has_a_width() -> None:
    values = [0.5, -0.25, 0.0, 0.75] * 500
    mean, low, high = mean_difference(values)
    reach = 1.959964 * statistics.stdev(values) / math.sqrt(len(values))
    assert (mean, low, high) == pytest.approx((0.25, 0.25 - reach, 0.25 + reach), abs=5e-4)
    for few in ([0.5], [0.0] * 30, []):
        mean, low, high = mean_difference(few)
        assert -1 <= low < mean < high <= 1


def test_holm_is_the_published_procedure() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_never_lowers_a_value_nor_changes_their_order(values: list[float]) -> None:
    corrected = holm(values)
    assert all(value <= one <= 1 for value, one in zip(values, corrected, strict=True))
    ranked = [one for _, one in sorted(zip(values, corrected, strict=True))]
    assert ranked == sorted(ranked)


def test_the_bootstrap_interval_of_many_differences_is_that_of_the_normal_distribution() -> None:
    differences = [1.0] * 120 + [0.0] * 240 + [-1.0] * 40
    mean, low, high = bootstrap_difference(differences)
    spread = 1.96 * statistics.pstdev(differences) / math.sqrt(len(differences))
    assert mean == pytest.approx(0.2)
    assert (low, high) == pytest.approx((mean - spread, mean + spread), abs=0.01)
    assert bootstrap_difference([0.25] * 7) == pytest.approx((0.25, 0.25, 0.25))
    assert bootstrap_difference([]) == (0.0, -1.0, 1.0)
