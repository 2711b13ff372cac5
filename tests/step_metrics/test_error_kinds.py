"""Recall of wrong steps by the kind of their error, counted by hand."""

from __future__ import annotations

from typing import Final

from atomthink_plugin.step_metrics.judged_steps import JudgedSteps
from atomthink_plugin.step_metrics.measure import measure
from atomthink_plugin.training.evaluate.report import tables
from tests.step_metrics.ten_solutions import TEN, R, W, at, scored

SEES: Final = "perception"
THINKS: Final = "reasoning"

CHAINS = [
    scored([R, W, W], [0.9, 0.2, 0.5], "q1", kinds=[None, SEES, THINKS]),  # found; not found: it is not below 0.5
    scored([W, W], [0.4, 0.7], "q2", kinds=[SEES, SEES]),  # found, not found
    scored([W, R, None], [0.1, 0.1, 0.1], "q3", kinds=[None, None, None]),  # no wrong step with a kind
    scored([W, R], [0.3, 0.3], "q3", kinds=[THINKS, None]),  # the second one counts as right
    scored([W], [0.1], "q4"),
]


def test_recall_counts_wrong_steps_with_a_kind() -> None:
    found = measure(CHAINS).error_recall
    assert {name: (one.value, one.count) for name, one in found.items()} == {
        "all": (3 / 5, 5),
        "perception": (2 / 3, 3),
        "reasoning": (1 / 2, 2),
    }
    stricter = measure(at(CHAINS, 0.6)).error_recall
    assert {name: one.value for name, one in stricter.items()} == {"all": 4 / 5, "perception": 2 / 3, "reasoning": 1.0}
    for one in found.values():
        assert one.low is not None
        assert one.high is not None
        assert 0 <= one.low <= (one.value or 0) <= one.high <= 1


def test_a_kind_that_does_not_occur_has_no_line() -> None:
    assert not measure(TEN).error_recall
    with_kinds, without = (
        [row[0].strip() for grid in tables(measure(chains), "t") for row in grid.cells] for chains in (CHAINS, TEN)
    )
    assert {SEES, THINKS} <= set(with_kinds)
    assert not {SEES, THINKS} & set(without)
    assert measure(CHAINS[1:2]).error_recall.keys() == {"all", SEES}


def test_a_wrong_step_without_a_verdict_is_not_found() -> None:
    (chain,) = CHAINS[1:2]
    silent = JudgedSteps(chain.truth, (None, False))
    assert measure([silent]).error_recall["all"].value == 1 / 2
