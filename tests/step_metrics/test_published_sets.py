"""Records of published sets that contradict themselves are refused."""

from __future__ import annotations

from typing import Any

import pytest

from atomthink_plugin.step_metrics.published_sets import PUBLISHED_SETS, LabelledSolution, add_new

PRMBENCH: dict[str, Any] = {
    "idx": "circular_1",
    "original_question": "How many?",
    "modified_question": "How many?",
    "original_process": ["Read 1.", "So 1."],
    "modified_process": ["Read 1.", "Read 1, since 1 is 1.", "So 1."],
    "error_steps": [2],
    "classification": "circular",
}


def test_error_steps_count_from_one_and_the_original_has_none() -> None:
    modified, original = PUBLISHED_SETS["prmbench"].read(PRMBENCH, "1", "test")
    assert modified.truth.labels == (True, False, True)
    assert original.truth.labels == (True, True)


@pytest.mark.parametrize("step", [0, 4, -1])
def test_an_error_step_that_is_not_there_is_refused(step: int) -> None:
    with pytest.raises(ValueError, match="error_steps"):
        PUBLISHED_SETS["prmbench"].read({**PRMBENCH, "error_steps": [step]}, "1", "test")


def test_a_solution_that_several_records_repeat_is_that_of_the_first() -> None:
    read = PUBLISHED_SETS["prmbench"].read
    known: dict[str, LabelledSolution] = {}
    add_new(known, *read(PRMBENCH, "1", "test"))
    other = {"idx": "deception_1", "classification": "deception", "original_process": ["Read one.", "So 1."]}
    add_new(known, *read(PRMBENCH | other, "2", "test"))
    assert len(known) == 3
    assert [one.steps[0] for one in known.values() if one.truth.subset == "correct"] == ["Read 1."]
    with pytest.raises(ValueError, match="circular_1"):
        add_new(known, *read(PRMBENCH, "3", "test"))
