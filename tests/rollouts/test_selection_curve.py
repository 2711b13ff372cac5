"""Curves over questions, and the values that candidates get from their step scores."""

from __future__ import annotations

import math

import pytest

from atomthink_plugin.api import AtomThinkError, Usage
from atomthink_plugin.rollouts import selection
from atomthink_plugin.rollouts.candidate_scores import CandidateScores, ScoresOrReason
from atomthink_plugin.rollouts.selection import CandidatePool, ScoredBy, SelectionRule, expected_accuracies
from atomthink_plugin.rollouts.selection_curve import MAJORITY, candidate_values, selection_curve, selection_rules

MEAN = ScoredBy("a", "mean")
BEST = SelectionRule("best_of_n", MEAN)


def pool(name: str, answers: str, right: str, *values: float | None) -> CandidatePool:
    """A question with answers of one letter each."""
    return CandidatePool(name, tuple(answers), tuple(one == right for one in answers), {MEAN: values})


def given(*scores: ScoresOrReason) -> CandidateScores:
    return CandidateScores("a", [scores], Usage())


def test_the_gain_is_the_mean_difference_from_the_majority_on_the_same_questions() -> None:
    pools = [
        pool("one", "xxy", "y", 0.1, 0.1, 0.9),  # best of 3 right, majority wrong
        pool("two", "xxy", "x", 0.1, 0.2, 0.9),  # the other way round
        pool("three", "xxy", "y", 0.1, 0.2, 0.9),
        pool("short", "x", "x", 0.5),
    ]
    points = {(one.rule, one.n): one for one in selection_curve(pools, [1, 3, 4])}
    best, majority = points[BEST, 3], points[MAJORITY, 3]
    assert (best.questions, majority.questions, points[BEST, 1].questions) == (3, 3, 4)
    assert (best.accuracy[0], majority.accuracy[0]) == pytest.approx((2 / 3, 1 / 3))
    assert best.gain is not None
    assert best.gain[0] == pytest.approx(1 / 3)
    assert best.gain[1] < 0 < best.gain[2]
    assert majority.gain is None
    assert points[BEST, 1].accuracy[0] == pytest.approx((1 / 3 + 2 / 3 + 1 / 3 + 1) / 4)
    assert not [n for _, n in points if n == 4]
    assert points[BEST, 1].first == pytest.approx((0 + 1 + 0 + 1) / 4)


def test_the_error_of_drawn_subsets_shrinks_with_the_number_of_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "MAX_ENUMERATED", 2)
    pools = [pool(name, "xxyyz", "x", *[0.5] * 5) for name in "abcd"]
    (own,) = [one for one in selection_curve(pools, [3]) if one.rule == MAJORITY]
    variances = [expected_accuracies(each, [MAJORITY], 3)[MAJORITY].variance for each in pools]
    assert own.sampling_error == pytest.approx(math.sqrt(sum(variances)) / 4)


def test_values_are_aggregates_and_a_reason_is_no_value() -> None:
    (values,) = candidate_values(given((0.2, 0.8), "too long"), ["mean", "min", "last"])
    assert values[ScoredBy("a", "mean")] == (pytest.approx(0.5), None)
    assert values[ScoredBy("a", "min")] == (0.2, None)
    assert values[ScoredBy("a", "last")] == (0.8, None)


def test_scores_outside_zero_to_one_rank_but_do_not_weigh() -> None:
    scores = given((1.0, -1.0), (1.0, 1.0))
    (values,) = candidate_values(scores, ["min"])
    pools = [CandidatePool("q", ("x", "y"), (True, False), values)]
    kinds = [rule.kind for rule in selection_rules(pools)]
    assert "best_of_n" in kinds
    assert "weighted" not in kinds
    with pytest.raises(AtomThinkError, match="prod"):
        candidate_values(scores, ["min", "prod"])
