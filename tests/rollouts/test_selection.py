"""Expected accuracies of choosing among candidates, against every subset worked through one by one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import combinations
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.rollouts import selection
from atomthink_plugin.rollouts.selection import CandidatePool, ScoredBy, SelectionRule, expected_accuracies, pass_at

MEAN = ScoredBy("a", "mean")
SINGLE, MAJORITY, PASS = SelectionRule("single"), SelectionRule("majority"), SelectionRule("pass")
WEIGHTED, BEST = SelectionRule("weighted", MEAN), SelectionRule("best_of_n", MEAN)
RULES = (SINGLE, MAJORITY, WEIGHTED, BEST, PASS)


def expected_accuracy(pool: CandidatePool, rule: SelectionRule, n: int) -> selection.ExpectedAccuracy:
    return expected_accuracies(pool, [rule], n)[rule]


def by_hand(pool: CandidatePool, rule: SelectionRule, subset: Sequence[int]) -> Fraction:
    """The share of right choices in one subset, worked out by the definition."""
    right = [Fraction(int(pool.correct[i])) for i in subset]
    if rule.kind == "single":
        return sum(right, Fraction(0)) / len(subset)
    if rule.kind == "pass":
        return max(right)
    if rule.kind == "best_of_n":
        values = [(-1.0 if pool.values[MEAN][i] is None else pool.values[MEAN][i]) for i in subset]
        tied = [share for share, value in zip(right, values, strict=True) if value == max(values)]
        return sum(tied, Fraction(0)) / len(tied)
    votes: dict[str, list[int]] = {}
    for i in subset:
        if (answer := pool.answers[i]) is not None:
            votes.setdefault(answer, []).append(i)
    if not votes:
        return Fraction(0)
    weights = {
        answer: sum(Fraction(str(pool.values[MEAN][i] or 0)) if rule is WEIGHTED else 1 for i in own)
        for answer, own in votes.items()
    }
    tied_answers = [answer for answer, weight in weights.items() if weight == max(weights.values())]
    shares = [Fraction(sum(pool.correct[i] for i in votes[answer]), len(votes[answer])) for answer in tied_answers]
    return sum(shares, Fraction(0)) / len(shares)


@st.composite
def pools(draw: st.DrawFn) -> CandidatePool:
    """Few answers and few values, so that most subsets have ties; some candidates lack an answer or a score."""
    count = draw(st.integers(1, 7))
    answers = draw(st.lists(st.sampled_from(["1", "2", "3", None]), min_size=count, max_size=count))
    correct = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    values = draw(st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.7, None]), min_size=count, max_size=count))
    return CandidatePool("q", tuple(answers), tuple(correct), {MEAN: tuple(values)})


@settings(max_examples=200, deadline=None)
@given(pools(), st.data())
def test_every_rule_is_the_mean_over_all_subsets(pool: CandidatePool, data: st.DataObject) -> None:
    n = data.draw(st.integers(1, len(pool)))
    subsets = list(combinations(range(len(pool)), n))
    for rule in RULES:
        found = expected_accuracy(pool, rule, n)
        shares = [by_hand(pool, rule, subset) for subset in subsets]
        assert found.value == pytest.approx(float(sum(shares, Fraction(0)) / len(shares)), abs=1e-12), rule
        assert found.first == pytest.approx(float(by_hand(pool, rule, range(n))), abs=1e-12), rule
        assert found.variance == 0


@settings(max_examples=100, deadline=None)
@given(pools(), st.data(), st.randoms(use_true_random=False))
def test_the_order_changes_no_expectation(pool: CandidatePool, data: st.DataObject, chance: Random) -> None:
    n = data.draw(st.integers(1, len(pool)))
    order = list(range(len(pool)))
    chance.shuffle(order)
    values = {MEAN: tuple(pool.values[MEAN][i] for i in order)}
    other = CandidatePool("q", tuple(pool.answers[i] for i in order), tuple(pool.correct[i] for i in order), values)
    for rule in RULES:
        assert expected_accuracy(pool, rule, n).value == pytest.approx(expected_accuracy(other, rule, n).value)


@settings(max_examples=100, deadline=None)
@given(pools())
def test_no_rule_is_above_pass_at_n(pool: CandidatePool) -> None:
    for n in range(1, len(pool) + 1):
        for rule in RULES:
            found, ceiling = expected_accuracy(pool, rule, n), expected_accuracy(pool, PASS, n)
            assert found.value <= ceiling.value + 1e-9
            assert found.first <= ceiling.first + 1e-9


def test_tied_candidates_count_by_the_share_of_right_ones_and_never_by_their_place() -> None:
    pool = CandidatePool("q", ("1", "2", "2", "3"), (True, False, False, False), {MEAN: (1.0, 1.0, 1.0, 0.5)})
    # Two of four: the right one alone on top (with "3"), tied with one of the two others, or absent.
    assert expected_accuracy(pool, BEST, 2).value == pytest.approx((1 * 1 + 2 * 0.5 + 3 * 0) / 6)
    assert expected_accuracy(pool, BEST, 4) == selection.ExpectedAccuracy(pytest.approx(1 / 3), pytest.approx(1 / 3))


def test_equivalent_answers_vote_together_and_missing_ones_not_at_all() -> None:
    pool = CandidatePool("q", ("1/2", "0.5", "3", None, None, None), (True, True, False, False, False, False))
    assert expected_accuracy(pool, MAJORITY, 6).value == 1.0
    silent = CandidatePool("q", (None, None), (False, False))
    assert expected_accuracy(silent, MAJORITY, 2).value == 0.0


def test_one_answer_with_two_verdicts_counts_by_their_share() -> None:
    pool = CandidatePool("q", ("1", "1", "2"), (True, False, False))
    assert expected_accuracy(pool, MAJORITY, 3).value == 0.5


def test_a_candidate_without_a_score_is_chosen_only_where_no_other_is() -> None:
    pool = CandidatePool("q", ("1", "2"), (True, False), {MEAN: (None, 0.0)})
    assert expected_accuracy(pool, BEST, 2).value == 0.0
    assert expected_accuracy(pool, BEST, 1).value == 0.5


@pytest.mark.parametrize(("n", "right", "total"), [(1, 3, 8), (4, 1, 8), (8, 1, 8), (5, 4, 8), (2, 0, 2)])
def test_pass_at_n_is_the_share_of_subsets_with_a_right_candidate(n: int, right: int, total: int) -> None:
    subsets = list(combinations([True] * right + [False] * (total - right), n))
    assert pass_at(n, right, total) == pytest.approx(sum(map(any, subsets)) / len(subsets))


def test_sums_that_are_equal_up_to_rounding_are_ties() -> None:
    values = (0.1, 0.2, 0.3)  # 0.1 + 0.2 > 0.3 in floating point
    pool = CandidatePool("q", ("1", "1", "2"), (True, True, False), {MEAN: values})
    assert expected_accuracy(pool, WEIGHTED, 3).value == 0.5
    pool = CandidatePool("q", ("1", "2"), (True, False), {MEAN: (0.3, 0.1 + 0.2)})
    assert expected_accuracy(pool, BEST, 2).value == 0.5


@pytest.mark.parametrize("rule", [WEIGHTED, BEST])
def test_values_that_differ_by_little_are_no_ties(rule: SelectionRule) -> None:
    pool = CandidatePool("q", ("1", "2"), (True, False), {MEAN: (0.500002, 0.500001)})
    assert expected_accuracy(pool, rule, 2).value == 1.0


def test_votes_in_too_many_subsets_are_drawn_and_their_error_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = ("1", "1", "1", "2", "2", "3", "4", None, None, "5")
    pool = CandidatePool("q", answers, tuple(answer == "1" for answer in answers))
    exact = expected_accuracy(pool, MAJORITY, 4)
    monkeypatch.setattr(selection, "MAX_ENUMERATED", math.comb(10, 4))
    assert expected_accuracy(pool, MAJORITY, 4) == exact
    monkeypatch.setattr(selection, "MAX_ENUMERATED", 10)
    drawn = expected_accuracy(pool, MAJORITY, 4)
    assert exact.variance == 0 < drawn.variance <= 0.2501 / selection.DRAWN  # shares of 0 to 1 vary by at most 1/4
    assert abs(drawn.value - exact.value) < 5 * math.sqrt(drawn.variance)
    assert drawn == expected_accuracy(pool, MAJORITY, 4)
    assert expected_accuracy(pool, PASS, 4).variance == 0
    other = expected_accuracy(replace(pool, question="other"), MAJORITY, 4)
    assert other.value != drawn.value  # subsets of each question are drawn independently


def test_random_subsets_hold_each_candidate_at_most_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = CandidatePool("q", ("1", "1", "1", "2", "2"), (True, True, True, False, False))
    monkeypatch.setattr(selection, "MAX_ENUMERATED", 0)
    assert expected_accuracy(pool, MAJORITY, 5) == selection.ExpectedAccuracy(1.0, 1.0)


def test_a_choice_that_is_right_more_often_than_any_is_a_data_error(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = CandidatePool("question 7", ("1", "2"), (True, False), {MEAN: (0.9, 0.1)})
    monkeypatch.setattr(selection, "pass_at", lambda n, right, total: 0.0)
    with pytest.raises(AtomThinkError, match="question 7"):
        expected_accuracy(pool, BEST, 2)
