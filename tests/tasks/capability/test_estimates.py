"""The estimator against chains whose abilities' success is known."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.tasks.capability.estimates import Capability, StepRates, capabilities, ratio, step_rates
from atomthink_plugin.tasks.capability.records import StepRecord
from atomthink_plugin.tasks.capability.rollouts import PrefixResult
from atomthink_plugin.tasks.capability.taxonomy import load_taxonomy

ABILITIES = ("Data Extraction", "Calculation", "Decision Making")


def measured_exactly(chains: Sequence[Sequence[str]], success: dict[str, float]) -> list[StepRates]:
    """Returns the rates of infinitely many rollouts of a policy with a known success rate for each ability."""
    records, measured = [], {}
    for index, abilities in enumerate(chains):
        name, history = f"c{index}", [f"Step {n}: s." for n in range(1, len(abilities) + 1)]
        for n in range(len(abilities) + 1):
            share = math.prod(success[ability] for ability in abilities[n:])
            measured[name, n] = PrefixResult(share, concluded=n == len(abilities))
        records += [
            StepRecord(
                id=f"{name}/{n}", chain=name, question="?", answer="1", history=tuple(history[:n]), ability=ability
            )
            for n, ability in enumerate(abilities, 1)
        ]
    return step_rates(records, measured)


def by_name(rows: Sequence[Capability]) -> dict[str, Capability]:
    return {row.name: row for row in rows}


@settings(max_examples=40)
@given(
    st.lists(st.lists(st.sampled_from(ABILITIES), min_size=1, max_size=7), min_size=2, max_size=5),
    st.fixed_dictionaries({ability: st.floats(0.1, 1.0) for ability in ABILITIES}),
)
def test_quality_is_the_chance_of_a_right_step_at_any_position(
    chains: list[list[str]], success: dict[str, float]
) -> None:
    rows = by_name(capabilities(measured_exactly(chains, success), load_taxonomy()))
    for ability in {ability for chain in chains for ability in chain}:
        quality = rows[ability].quality
        assert quality is not None
        assert quality.value == pytest.approx(success[ability])
        assert rows[ability].records == sum(chain.count(ability) for chain in chains)


def test_utilisation_orders_by_place_and_quality_by_skill() -> None:
    chain = ["Data Extraction", "Data Extraction", "Calculation", "Decision Making"]
    success = {"Data Extraction": 0.9, "Calculation": 0.5, "Decision Making": 1.0}
    rows = by_name(capabilities(measured_exactly([chain, chain], success), load_taxonomy()))
    reading, computing = rows["Data Extraction"], rows["Calculation"]
    assert reading.utilisation is not None
    assert computing.utilisation is not None
    assert computing.gain is not None
    assert reading.utilisation.value == pytest.approx((0.45 + 0.5) / 2)
    assert computing.utilisation.value == pytest.approx(1.0)
    assert computing.gain.value == pytest.approx(1.0 - 0.405)
    assert (rows["Decision Making"].utilisation, rows["Decision Making"].gain) == (None, None)


def test_groups_and_all_pool_their_steps() -> None:
    chain = ["Data Extraction", "Image Description"]
    success = {"Data Extraction": 0.5, "Image Description": 1.0}
    rows = by_name(capabilities(measured_exactly([chain, chain], success), load_taxonomy()))
    for name in ("Question Understanding", "all"):
        quality = rows[name].quality
        assert quality is not None
        assert quality.value == pytest.approx((0.5 + 1.0) / (1.0 + 1.0))
        assert (rows[name].records, rows[name].chains) == (4, 2)


def test_without_success_after_a_step_there_is_no_quality() -> None:
    steps = [StepRates("a", "Calculation", 0.0, 0.0, 0.0), StepRates("b", "Calculation", 0.0, 0.0, 0.0)]
    (row, *_) = capabilities(steps, load_taxonomy())
    assert row.quality is None
    assert row.utilisation is not None
    assert row.utilisation.value == 0.0
    assert row.utilisation.high > 0.5  # two chains prove little


def test_steps_with_a_prefix_that_failed_are_left_out() -> None:
    record = StepRecord(id="a/1", chain="a", question="?", answer="1", history=("Step 1: s.",), ability="Calculation")
    measured = {("a", 0): PrefixResult(0.5), ("a", 1): PrefixResult(None, "broken")}
    assert step_rates([record], measured) == []


def test_the_interval_is_of_chains_not_of_steps() -> None:
    alike = [(f"c{i}", float(i % 2), 1.0) for i in range(20)]
    once, often = ratio(alike), ratio(alike * 10)
    assert once is not None
    assert often is not None
    assert (often.value, often.low, often.high) == pytest.approx((once.value, once.low, once.high))
    assert once.low == pytest.approx(0.28, abs=0.06)  # 10 of 20: Wilson says 0.30 to 0.70
    assert once.high == pytest.approx(0.72, abs=0.06)


def test_one_chain_has_no_interval_to_speak_of() -> None:
    estimate = ratio([("a", 0.5, 1.0), ("a", 0.7, 1.0)])
    assert estimate is not None
    assert (estimate.value, estimate.low, estimate.high) == (pytest.approx(0.6), 0.0, 1.0)


def test_an_ability_that_the_taxonomy_lacks_is_refused() -> None:
    with pytest.raises(AtomThinkError, match="'Telepathy'"):
        capabilities([StepRates("a", "Telepathy", 0.5, 1.0, 0.5)], load_taxonomy())
