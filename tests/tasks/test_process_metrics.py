"""Headlines and summaries of the tasks of critics, counted by hand from replies."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from atomthink_plugin.tasks.process import metrics

Label = bool | None


def line(labels: Sequence[Label], *replies: Any, subset: str = "a", vote: Any = None) -> dict[str, Any]:
    """The line of a solution with these replies, which are JSON or text."""
    doc = {"steps": ["s"] * len(labels), "labels": list(labels), "problem": "p", "subset": subset, "right": None}
    texts = [one if isinstance(one, str) else json.dumps(one) for one in replies]
    read = vote or metrics.visualprocessbench_replies
    return dict(read(doc, [texts])["report"])


def score(*values: int) -> dict[str, list[int]]:
    return {"Score": list(values)}


# Source a: every step judged as labelled. Source b: all three steps judged right, two of them are.
LINES = [
    line([True, False], score(1, 0)),
    line([True, True, False], score(1, 1, 1), subset="b"),
]


def test_the_three_overall_numbers_differ() -> None:
    pooled = (6 / 7 + 2 / 3) / 2  # right: 3 found, 1 too many; wrong: 1 of 2 found
    second = (4 / 5 + 0) / 2
    assert metrics.overall_pooled(LINES) == pytest.approx(pooled)
    found = metrics.visualprocessbench_summary(LINES)
    assert found["overall_pooled"] == round(pooled, 4)
    assert found["overall_weighted"] == round((2 * 1 + 3 * second) / 5, 4)
    assert found["overall_mean"] == round((1 + second) / 2, 4)
    assert found["sources"] == {"a": 1.0, "b": second}
    assert (found["f1_right"], found["f1_wrong"]) == (round(6 / 7, 4), round(2 / 3, 4))
    assert "oracle_threshold" not in found


def test_first_errors_have_two_accuracies_and_their_harmonic_mean() -> None:
    read = metrics.first_error_replies
    lines = [
        line([True, False, None], r"\boxed{1}", vote=read),
        line([False, None], r"\boxed{1}", vote=read),
        line([False, None], r"\boxed{0}", vote=read),
        line([True, True], r"\boxed{-1}", vote=read),
        line([True, True], "no idea", vote=read),
    ]
    found = metrics.first_error_summary(lines)
    assert (found["accuracy_error"], found["accuracy_correct"]) == (round(2 / 3, 4), 0.5)
    assert found["first_error_f1"] == round(2 * (2 / 3) * 0.5 / (2 / 3 + 0.5), 4)
    assert metrics.first_error_f1(lines) == pytest.approx(2 * (2 / 3) * 0.5 / (2 / 3 + 0.5))
    assert (found["invalid"], found["of"]) == (1, 5)


def test_the_oracle_is_that_of_the_headline() -> None:
    """The best threshold for first errors is not that for single steps."""

    def given(labels: Sequence[Label], *scores: float) -> dict[str, Any]:
        return line(labels, {"scores": list(scores)}, vote=metrics.processbench_json_replies)

    lines = [given([False, True, True, True], 0.6, 0.5, 0.5, 0.5), given([True], 0.7)]
    first, steps = metrics.first_error_summary(lines), metrics.visualprocessbench_summary(lines)
    assert 0.6 <= first["oracle_threshold"] <= 0.7
    assert first["oracle_f1"] == 1.0
    assert steps["oracle_f1"] < 1.0
    assert (first["right_if_score"], first["threshold_chosen_on"]) == (">= 0.5", "fixed")


def test_a_vote_is_compared_with_its_single_replies() -> None:
    replies = [score(1, 0), score(1, 0), score(0, 0)]
    found = metrics.visualprocessbench_summary([line([True, False], *replies), line([True, False], *replies)])
    assert (found["vote"], found["overall_pooled"]) == ("maj@3", 1.0)
    assert found["overall_pooled_of_single_replies"] == round((1 + 1 + (0 + 2 / 3) / 2) / 3, 4)
