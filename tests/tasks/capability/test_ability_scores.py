from __future__ import annotations

import pytest

from atomthink_plugin.tasks.capability.ability_scores import UNNAMED, score_abilities
from atomthink_plugin.tasks.capability.labellers import KeywordLabeller
from atomthink_plugin.tasks.capability.taxonomy import load_taxonomy

CHAINS = [
    [("Step 1: Read green = 6.", 0.9), ("Step 2: Read red = 2.", 0.5), ("Step 3: Compute 6 x 2 = 12.", 0.2)],
    [("Step 1: Read blue = 7.", 0.4), ("Step 2: Compute 7 + 1 = 8.", 0.8), ("Step 3: Compute 8 - 2 = 6.", 0.6)],
    [("Step 1: Qwertz uiop.", 0.1)],
]


def test_means_and_lowest_scores_are_those_of_each_ability_s_steps() -> None:
    found = {one.ability: one for one in score_abilities(CHAINS, KeywordLabeller(), load_taxonomy())}
    reading, arithmetic = found["Data Extraction"], found["Calculation"]
    assert (reading.steps, arithmetic.steps, found[UNNAMED].steps) == (3, 3, 1)
    assert reading.mean == pytest.approx((0.9 + 0.5 + 0.4) / 3)
    assert reading.worst == pytest.approx((0.5 + 0.4) / 2)
    assert arithmetic.mean == pytest.approx((0.2 + 0.8 + 0.6) / 3)
    assert arithmetic.worst == pytest.approx((0.2 + 0.6) / 2)


def test_without_scores_there_are_no_abilities() -> None:
    assert score_abilities([], KeywordLabeller(), load_taxonomy()) == []
    assert score_abilities([[]], KeywordLabeller(), load_taxonomy()) == []
