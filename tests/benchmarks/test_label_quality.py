"""The comparison of step labels, with numbers counted by hand."""

from __future__ import annotations

import random

import pytest

from atomthink_plugin.tasks.demo.questions import held_out
from atomthink_plugin.training.tiny.labels import verdicts
from benchmarks.label_quality import LabelledChain, corrupted, monotone, row, savings, teacher_chains


def test_steps_are_compared_up_to_the_first_true_error() -> None:
    chains = [
        LabelledChain([1, 0, 0, 0], [True, False, True, True]),  # found; later steps do not count
        LabelledChain([0, None, None], [True, True, False]),  # too early; the true one has no label
        LabelledChain([1, 1], [True, True]),  # no error, and none is reported
        LabelledChain([1, 1, 0], [False, True, True]),  # too late
    ]
    found = row("method", 2, chains, rollouts=10)
    assert (found.first_error_accuracy, found.of_wrong_chains) == (0.5, pytest.approx(1 / 3))
    assert (found.too_early, found.too_late) == (0.25, 0.25)
    assert (found.precision, found.recall) == (0.5, pytest.approx(1 / 3))


def test_a_right_prefix_proves_those_before_it() -> None:
    assert monotone([0.0, 0.25, 0.0, 0.0]) == [1.0, 1.0, 0.0, 0.0]
    assert monotone([0.0, 0.0]) == [0.0, 0.0]


def test_rollouts_are_compared_at_equal_accuracy() -> None:
    def point(way: str, n: int, accuracy: float, rollouts: int) -> object:
        chains = [LabelledChain([1], [i < accuracy * 10]) for i in range(10)]
        return row(way, n, chains, rollouts=rollouts)

    rows = [point("omega", 1, 0.2, 10), point("omega", 2, 0.6, 20)]
    rows += [point("every", 1, 0.1, 100), point("every", 2, 0.4, 100), point("every", 4, 0.7, 100)]
    saved = savings(rows, "every")  # type: ignore[arg-type]
    assert [p["share"] for p in saved] == [pytest.approx(0.1), pytest.approx(0.15), None]


def test_the_teachers_labels_are_exact_except_for_accidents() -> None:
    rng = random.Random(0)
    right = accidents = 0
    for question in held_out(200, 3):
        whole, cut = teacher_chains(question, rng)
        assert all(whole.truth)
        assert all(cut.truth[:-1])
        assert cut.labels == [*[1.0] * (len(cut.truth) - 1), 0.0]
        accidents += cut.truth[-1]
        right += 1
    assert 0 < accidents < 0.25 * right
    question = held_out(1, 3)[0]
    for at, gold in enumerate(question.steps):
        text = corrupted(question, at, rng)
        assert text.split(":")[0] == gold.split(":")[0]
        assert verdicts(question, [*question.steps[:at], text])[-1] in (True, False)
