"""The clock of a model's phases."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import suppress

import pytest

from atomthink_plugin.inference import phases
from atomthink_plugin.inference.phases import PhaseClock, forward_pass, phase


class Time:
    """A clock that stands still until the test moves it."""

    now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def hand(monkeypatch: pytest.MonkeyPatch) -> Time:
    stopped = Time()
    monkeypatch.setattr(phases, "time", stopped)
    return stopped


def test_an_inner_phase_pauses_the_outer_one(hand: Time) -> None:
    clock = PhaseClock()
    with clock.active():
        hand.now += 1  # in no phase
        with phase("decode"):
            hand.now += 2
            with phase("cache"):
                hand.now += 4
            hand.now += 8
    assert {name: one.seconds for name, one in clock.work().phases.items()} == {"decode": 10, "cache": 4}


def test_a_failing_phase_ends(hand: Time) -> None:
    clock = PhaseClock()
    with clock.active():
        with suppress(ValueError), phase("prefill"):
            hand.now += 1
            raise ValueError
        hand.now += 2
    assert clock.work().phases["prefill"].seconds == 1


def test_forward_passes_count_in_the_phase_around_them() -> None:
    clock = PhaseClock()
    with clock.active(), phase("prefill"):
        forward_pass(rows=1, tokens=30)
        with phase("decode"):
            for rows in (3, 3, 2):
                forward_pass(rows, tokens=2)
    found = clock.work().phases
    assert (found["prefill"].passes, found["prefill"].tokens) == ({1: 1}, 30)
    assert (found["decode"].passes, found["decode"].tokens) == ({3: 2, 2: 1}, 6)


def test_a_model_that_is_active_inside_another_one_pauses_it(hand: Time) -> None:
    policy, prm = PhaseClock(), PhaseClock()
    with policy.active(), phase("decode"):
        hand.now += 1
        with prm.active(), phase("score"):
            hand.now += 2
        hand.now += 4
    assert policy.work().phases["decode"].seconds == 5
    assert prm.work().phases["score"].seconds == 2
    assert prm.work().phases.keys() == {"score"}


def test_nothing_is_measured_without_an_active_clock() -> None:
    with phase("decode"):
        forward_pass(1, 1)


def test_the_threads_of_a_model_are_added_up_and_others_measure_nothing() -> None:
    clock, rounds = PhaseClock(), 2000
    barrier = threading.Barrier(4)

    def work() -> None:
        barrier.wait()
        with clock.active():
            for _ in range(rounds):
                with phase("decode"):
                    forward_pass(2, 1)

    def other() -> None:
        barrier.wait()
        with phase("decode"):
            forward_pass(2, 1)

    threads = [threading.Thread(target=each) for each in (work, work, work, other)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        clock.work()  # reading does not disturb
    assert clock.work().phases["decode"].passes == {2: 3 * rounds}


def test_a_reading_minus_an_earlier_one_is_the_work_between_them(hand: Time) -> None:
    clock = PhaseClock()
    with clock.active(), phase("decode"):
        forward_pass(128, 128)
        hand.now += 1
    before = clock.work()
    with clock.active(), phase("decode"):
        forward_pass(4, 3)
        hand.now += 2
    new = clock.work().since(before).phases["decode"]
    assert (new.seconds, new.tokens, new.passes) == (2, 3, {4: 1})  # the largest number of rows is that of this part


def test_requests_in_flight_are_weighted_by_their_time(hand: Time) -> None:
    clock = PhaseClock()
    with clock.request(rows=3):
        hand.now += 2
        with clock.request():
            hand.now += 1
            during = clock.work()
    hand.now += 5  # nothing in flight
    assert during.in_flight == {3: 2, 4: 1}
    with clock.request(rows=2):
        hand.now += 4
    assert clock.work().in_flight == Counter({3: 2, 4: 1, 2: 4})
    assert clock.work().since(during).in_flight == {2: 4}
    assert clock.work().since(during).requests == 1
