"""The report of a run's speed."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import pytest

from atomthink_plugin.api import Failure, Usage
from atomthink_plugin.inference.phases import ModelWork, PhaseClock, PhaseTotals, forward_pass, phase
from atomthink_plugin.runtime.speed import ModelSpeed, RunMeter

DECODING = ModelWork(
    {
        "encode": PhaseTotals(3.0),
        "prefill": PhaseTotals(2.0, tokens=300, passes=Counter({3: 1})),
        "decode": PhaseTotals(5.0, tokens=60, passes=Counter({8: 2, 4: 6})),
    }
)
ASKED = ModelWork(requests=7, in_flight=Counter({2: 1.0, 6: 3.0}))


def test_rows_in_flight_are_those_of_the_forward_passes_that_decode() -> None:
    speed = ModelSpeed(DECODING, 10.0)
    assert (speed.mean_rows, speed.most_rows) == (5.0, 8)


def test_a_model_that_decodes_nothing_has_the_rows_of_its_other_passes() -> None:
    work = ModelWork({"prefill": PhaseTotals(1.0, 9, Counter({2: 1, 4: 3})), "score": PhaseTotals(1.0)})
    speed = ModelSpeed(work, 4.0)
    assert (speed.mean_rows, speed.most_rows) == (3.5, 4)


def test_requested_rows_are_weighted_by_their_time() -> None:
    speed = ModelSpeed(ASKED, 5.0)
    assert (speed.mean_rows, speed.most_rows) == (5.0, 6)
    assert speed.shares == {"request": 0.8, "waiting": pytest.approx(0.2)}


def test_what_runs_beside_the_model_does_not_shorten_its_waiting() -> None:
    shares = ModelSpeed(DECODING, 10.0).shares
    assert shares == {"decode": 0.5, "encode": 0.3, "prefill": 0.2, "waiting": pytest.approx(0.3)}
    assert list(shares) == ["decode", "encode", "prefill", "waiting"]


def test_a_model_without_work_waits_all_the_time() -> None:
    speed = ModelSpeed(ModelWork(), 2.0)
    assert (speed.mean_rows, speed.most_rows, speed.shares) == (0, 0, {"waiting": 1.0})


def test_a_meter_counts_from_its_creation_on_and_leaves_out_what_the_journal_knew() -> None:
    clock = PhaseClock()
    with clock.active(), phase("decode"):
        forward_pass(64, 64)
    meter = RunMeter({"policy": SimpleNamespace(clock=clock), "prm": None, "judge": SimpleNamespace()})
    with clock.active(), phase("decode"):
        forward_pass(3, 2)
    meter.finished(Failure("torn"), Usage(generated=5, judged=1, prefilled=40, cached=2))
    meter.finished(Failure("known"), None)
    speed = meter.speed()
    assert (speed.sampled, speed.prefilled) == (6, 40)
    assert list(speed.models) == ["policy"]
    assert speed.models["policy"].rows == {3: 1}
    assert speed.to_json()["tokens_per_second"] == 6 / speed.seconds


def test_a_model_with_two_roles_is_reported_once() -> None:
    model = SimpleNamespace(clock=PhaseClock())
    assert list(RunMeter({"policy": model, "prm": None, "critic": model}).speed().models) == ["policy"]


def test_flat_numbers_have_the_role_in_their_names() -> None:
    clock = PhaseClock()
    meter = RunMeter({"policy": SimpleNamespace(clock=clock)})
    with clock.active(), phase("decode"):
        forward_pass(3, 2)
    found = meter.speed().flat()
    assert found.keys() == {"policy_mean_rows", "policy_most_rows", "policy_share_decode", "policy_share_waiting"}
    assert found["policy_most_rows"] == 3
