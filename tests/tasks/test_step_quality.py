"""The form of a reply's steps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atomthink_plugin.tasks.step_quality import MAX_STEPS, StepQuality, step_quality, summarize

GOOD = "Step 1: Read red = 4.\n\nStep 2: 4 + 7 = 11.\n\nStep 3: To sum up, the final answer is: 11."


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        (GOOD, StepQuality(3, 3, 0, True)),
        (GOOD.replace("To sum up, the final answer is: 11.", "4 + 7 = 11."), StepQuality(3, 2, 1, False)),
        (GOOD.replace("Step 2: 4 + 7 = 11.", "Step 2: Read red = 4."), StepQuality(3, 2, 1, True)),
        ("11", StepQuality(1, 1, 0, False)),
        ("", StepQuality(0, 0, 0, False)),
    ],
)
def test_steps_are_counted_and_checked(reply: str, found: StepQuality) -> None:
    assert step_quality(reply) == found


def test_a_chain_is_well_formed_if_all_its_steps_are_valid_and_it_concludes() -> None:
    chains = [
        step_quality(GOOD),
        step_quality("11"),
        step_quality("Step 1: Look.\n\nStep 2: Look.\n\nStep 3: The answer is 1."),
    ]
    assert [chain.well_formed for chain in chains] == [True, False, False]
    assert summarize(chains) == {"per_answer": round(7 / 3, 3), "well_formed": round(1 / 3, 4), "repeated": 0.1429}


def test_empty_replies_count_in_nothing() -> None:
    assert summarize([step_quality("")]) == {"per_answer": None, "well_formed": None, "repeated": None}
    assert summarize([step_quality(""), step_quality(GOOD)]) == summarize([step_quality(GOOD)])


@pytest.mark.parametrize("piece", ["1", "x\n\n", "Step 1: 2.\n", "\\boxed{", "answer is: ", "**"])
def test_a_megabyte_of_anything_is_cut_before_it_is_compared(piece: str) -> None:
    found = step_quality(piece * (1_000_000 // len(piece)))
    assert found.valid + found.repeated <= MAX_STEPS


@given(st.text())
def test_no_reply_breaks_it(reply: str) -> None:
    found = step_quality(reply)
    assert 0 <= found.repeated <= found.steps - found.valid
