"""Every measure on ten chains, against numbers that were counted by hand."""

from __future__ import annotations

import pytest

from atomthink_plugin.training.evaluate.measures.resampling import Estimate
from atomthink_plugin.training.evaluate.report import measure, tables
from tests.training.evaluate.ten import TEN

FOUND = measure(TEN, 0.5)


def is_(estimate: Estimate, value: float, count: int) -> None:
    assert (estimate.value, estimate.count) == (pytest.approx(value), count)
    assert estimate.low is not None
    assert estimate.high is not None
    assert estimate.low <= value + 1e-9
    assert value - 1e-9 <= estimate.high


def test_first_error_f1() -> None:
    found = FOUND.first_error
    # All: 2, 6 of 2, 3, 4, 6, 9 are seen; nothing is seen in 1, 7, 10 of 1, 5, 7, 10.
    is_(found.all.wrong, 2 / 5, 5)
    is_(found.all.right, 3 / 4, 4)
    is_(found.all.f1, 2 * 0.4 * 0.75 / 1.15, 9)
    # a: 2 of 2, 3, 4 and 1 of 1, 5. b: 6 of 6, 9 and both of 7, 10.
    is_(found.subsets["a"].wrong, 1 / 3, 3)
    is_(found.subsets["a"].right, 1 / 2, 2)
    is_(found.subsets["a"].f1, 0.4, 5)
    is_(found.subsets["b"].f1, 2 / 3, 4)
    is_(found.mean, (0.4 + 2 / 3) / 2, 2)
    assert found.unknown == 1


def test_position_of_the_error_seen() -> None:
    found = FOUND.first_error.position
    for estimate, share in ((found.exact, 2 / 5), (found.early, 1 / 5), (found.late, 1 / 5), (found.missed, 1 / 5)):
        is_(estimate, share, 5)
    is_(found.distance, (0 + 1 + 2 + 0) / 4, 4)
    is_(found.offset, (0 + 1 - 2 + 0) / 4, 4)


def test_macro_f1_over_steps() -> None:
    # 17 right steps, 2 of them (in 4 and 5) taken for wrong; 6 wrong ones, 3 of them (in 3, 6, 9) taken for right.
    found = FOUND.steps.all
    is_(found.f1_right, 2 * 15 / (2 * 15 + 2 + 3), 23)
    is_(found.f1_wrong, 2 * 3 / (2 * 3 + 2 + 3), 23)
    is_(found.macro_f1, (6 / 7 + 6 / 11) / 2, 23)
    is_(found.accuracy, 18 / 23, 23)
    is_(FOUND.steps.subsets["a"].macro_f1, (12 / 15 + 4 / 7) / 2, 11)


def test_auc() -> None:
    # Right steps above each wrong one of 17, ties half: .2 .1 .1 all, .6 10.5, .9 2.5, .95 none.
    is_(FOUND.ranking.pooled, (3 * 17 + 10.5 + 2.5 + 0) / (17 * 6), 23)
    # q1 4 of 4, q2 3 of 4, q4 3.5 of 6, q6 0 of 4; q3 and q5 have no wrong step.
    is_(FOUND.ranking.within, (1 + 3 / 4 + 3.5 / 6 + 0) / 4, 4)


def test_calibration() -> None:
    found = FOUND.calibration
    counts = {row.low: (row.right.count, row.score, row.right.value) for row in found.bins if row.right.count}
    assert counts == {
        0.1: (2, pytest.approx(0.1), 0.0),
        0.2: (1, pytest.approx(0.2), 0.0),
        0.4: (2, pytest.approx(0.4), 1.0),
        0.5: (4, pytest.approx(0.5), 1.0),
        0.6: (2, pytest.approx(0.6), 0.5),
        0.7: (2, pytest.approx(0.7), 1.0),
        0.8: (3, pytest.approx(0.8), 1.0),
        0.9: (7, pytest.approx(6.35 / 7), pytest.approx(5 / 7)),
    }
    is_(found.error, (0.2 + 0.2 + 1.2 + 2.0 + 0.2 + 0.6 + 0.6 + 1.35) / 23, 23)
    right = 5 * 0.01 + 3 * 0.04 + 2 * 0.09 + 0.16 + 4 * 0.25 + 2 * 0.36
    is_(found.brier, (right + 0.04 + 0.36 + 0.01 + 0.01 + 0.81 + 0.9025) / 23, 23)


def test_best_of_n() -> None:
    # q1: 1 is right, 2 is not; q2: neither 3 nor 4; q4: 7 is, 6 is not. By the last score q4 is a draw.
    found = FOUND.best_of_n
    assert found is not None
    assert found.chains == 2
    is_(found.mean, 1 / 3, 3)
    is_(found.oracle, 2 / 3, 3)
    for aggregate, picked in (("last", 1.5 / 3), ("min", 2 / 3), ("mean", 2 / 3), ("prod", 2 / 3)):
        is_(found.picked[aggregate], picked, 3)
        is_(found.gain[aggregate], picked - 1 / 3, 3)


def test_another_threshold() -> None:
    found = measure(TEN, 0.45)  # the same scores count as below it
    assert found.first_error.all.f1.value == FOUND.first_error.all.f1.value
    found = measure(TEN, 0.55)  # 10 is now taken for wrong from its first step on
    assert found.first_error.all.right.value == 2 / 4
    assert found.steps.all.accuracy.value == pytest.approx(14 / 23)


def test_the_tables_show_the_numbers() -> None:
    lines = [" ".join(line.split()) for grid in tables(FOUND, "ten") for line in grid.lines()]
    assert any(line.startswith("first-error F1, mean of subsets 53.3 ") for line in lines)
    assert any(line.startswith("macro-F1 over steps 70.1 ") for line in lines)
    assert any(line.startswith("mean distance, in steps 0.75 ") for line in lines)
    assert any(line.startswith("best of N by last: gain 16.7 ") for line in lines)
    assert any(line.startswith("a 40.0 [") and line.endswith(" 5 11") for line in lines)
