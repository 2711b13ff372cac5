"""Confidence is the geometric mean of the step's token probabilities."""

from __future__ import annotations

import math

import pytest

from atomthink_plugin.api import AtomThinkError, Path, Step
from atomthink_plugin.scorers.confidence import confidence
from tests.scorers.shared import ASKED, scores
from tests.tiny_models import chain


def test_the_score_is_the_mean_probability_of_the_last_step() -> None:
    path = chain(ASKED, "Step 1: a.").extend(Step("Step 2: b.", (5, 6), math.log(0.5) + math.log(0.125)))
    assert scores(confidence(), [path]) == [pytest.approx(0.25)]


@pytest.mark.parametrize("step", [Step("Step 1: a."), Step("Step 1: a.", (5, 6)), Step("Step 1: a.", (), -1.0)])
def test_a_policy_without_tokens_or_log_probabilities_is_an_error(step: Step) -> None:
    with pytest.raises(AtomThinkError, match="prm="):
        scores(confidence(), [Path(ASKED).extend(step)])


def test_a_step_that_the_search_wrote_is_certain_and_one_it_asked_for_is_not() -> None:
    written = chain(ASKED, "Step 1: a.").extend(Step("Wait.", logprob=0.0, role=""))
    asked = written.extend(Step("It is wrong.", (5,), math.log(0.5), use="critic#1", role="judge"))
    assert scores(confidence(), [written, asked]) == [1.0, pytest.approx(0.5)]


def test_a_root_has_nothing_to_score() -> None:
    with pytest.raises(ValueError, match="step"):
        scores(confidence(), [Path(ASKED)])
