"""Recall of wrong steps by the kind of their error, counted by hand."""

from __future__ import annotations

from typing import Final

from atomthink_plugin.training.evaluate.metrics import measure
from atomthink_plugin.training.evaluate.report import tables
from tests.training.evaluate.ten_chains import TEN, R, W, scored

SEES: Final = "perception"
THINKS: Final = "reasoning"

CHAINS = [
    scored([R, W, W], [0.9, 0.2, 0.5], "1", "q1", kinds=[None, SEES, THINKS]),  # found; not found: it is not below 0.5
    scored([W, W], [0.4, 0.7], "2", "q2", kinds=[SEES, SEES]),  # found, not found
    scored([W, R, None], [0.1, 0.1, 0.1], "3", "q3", kinds=[None, SEES, THINKS]),  # no wrong step with a kind
    scored([0.49, 0.5], [0.3, 0.3], "4", "q3", kinds=[THINKS, THINKS]),  # the second one counts as right
    scored([W], [0.1], "5", "q4"),
]


def test_recall_counts_wrong_steps_with_a_kind() -> None:
    found = measure(CHAINS, 0.5).error_recall
    assert {name: (one.value, one.count) for name, one in found.items()} == {
        "all": (3 / 5, 5),
        "perception": (2 / 3, 3),
        "reasoning": (1 / 2, 2),
    }
    stricter = measure(CHAINS, 0.6).error_recall
    assert {name: one.value for name, one in stricter.items()} == {"all": 4 / 5, "perception": 2 / 3, "reasoning": 1.0}
    for one in found.values():
        assert one.low is not None
        assert one.high is not None
        assert 0 <= one.low <= (one.value or 0) <= one.high <= 1


def test_a_kind_that_does_not_occur_has_no_line() -> None:
    assert not measure(TEN, 0.5).error_recall
    with_kinds, without = (
        [row[0].strip() for grid in tables(measure(chains, 0.5), "t") for row in grid.cells] for chains in (CHAINS, TEN)
    )
    assert {SEES, THINKS} <= set(with_kinds)
    assert not {SEES, THINKS} & set(without)
    assert measure(CHAINS[1:2], 0.5).error_recall.keys() == {"all", SEES}
