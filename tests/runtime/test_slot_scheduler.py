"""The scheduler answers callers of any event loop, forgets those who have left, and ends with its run."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from atomthink_plugin.inference.decoding import GenerationOutput, GenerationRequest
from atomthink_plugin.inference.model_calls import CannotForkError
from atomthink_plugin.inference.slots.admission import Admission, Ended
from atomthink_plugin.inference.slots.generation import Generation
from atomthink_plugin.runtime.event_loop import run
from atomthink_plugin.runtime.slot_scheduler import SlotScheduler
from tests.inference.slots.test_admission import expected, requests_to, result_of
from tests.tiny_models import llava, loaded


def scheduler_of(rows: int | Callable[[], int] = 64) -> SlotScheduler:
    return SlotScheduler(loaded(llava), 2**30, rows)


async def submitted(
    scheduler: SlotScheduler, requests: Sequence[GenerationRequest]
) -> list[GenerationOutput | BaseException]:
    return await asyncio.gather(*(scheduler.submit(one) for one in requests), return_exceptions=True)


class Watched:
    """What an admission was given and what it returned, in order; `wait` runs in its thread before each turn."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, wait: Callable[[int], object] = lambda turn: None) -> None:
        self.added: list[int] = []
        self.ended: list[Generation] = []
        self.turns = 0
        add, turn = Admission.add, Admission.turn

        def watched_add(admission: Admission, samples: Sequence[Generation]) -> None:
            self.added += [len(samples)] if samples else []
            add(admission, samples)

        def watched_turn(admission: Admission) -> Ended:
            wait(self.turns)
            self.turns += 1
            ended = turn(admission)
            self.ended += [one for one, _ in ended]
            return ended

        monkeypatch.setattr(Admission, "add", watched_add)
        monkeypatch.setattr(Admission, "turn", watched_turn)


class SecondTurn:
    """Holds the second turn from when it is reached until it is released."""

    def __init__(self) -> None:
        self.reached, self.released = threading.Event(), threading.Event()

    def __call__(self, turn: int) -> None:
        if turn == 1:
            self.reached.set()
            self.released.wait()


def test_requests_of_one_moment_are_handed_over_together(monkeypatch: pytest.MonkeyPatch) -> None:
    watched, scheduler = Watched(monkeypatch), scheduler_of()
    for _ in range(2):
        outputs: list[Any] = run(submitted(scheduler, requests_to(llava)))
        assert [result_of(one) for one in outputs] == expected(llava)
    assert watched.added == [len(requests_to(llava))] * 2


def test_requests_of_several_event_loops_share_a_batch() -> None:
    scheduler, requests = scheduler_of(), requests_to(llava)
    got: dict[int, list[Any]] = {}

    def ask(part: int) -> None:
        got[part] = asyncio.run(submitted(scheduler, requests[part::3]))

    threads = [threading.Thread(target=ask, args=(part,)) for part in range(3)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    for part in range(3):
        assert [result_of(one) for one in got[part]] == expected(llava)[part::3]


def test_urgent_requests_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    watched, scheduler = Watched(monkeypatch), scheduler_of(rows=1)
    requests = requests_to(llava)[:3]

    async def ask() -> None:
        await asyncio.gather(*(scheduler.submit(one, urgency) for urgency, one in enumerate(requests)))

    asyncio.run(ask())
    assert [one.request for one in watched.ended] == requests[::-1]


def test_a_cancelled_request_leaves_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first turn has run and the second one waits when half of the callers leave."""
    second = SecondTurn()
    watched, scheduler = Watched(monkeypatch, second), scheduler_of()
    requests = [one for one in requests_to(llava) if one.draw.max_tokens > 5]

    async def ask() -> list[Any]:
        tasks = [asyncio.create_task(scheduler.submit(one)) for one in requests]
        await asyncio.to_thread(second.reached.wait)
        gone = [task for task in tasks[::2] if not task.done()]
        assert gone
        for task in gone:
            task.cancel()
        results = await asyncio.gather(*gone, return_exceptions=True)
        assert {type(one) for one in results} == {asyncio.CancelledError}
        second.released.set()
        return await asyncio.gather(*tasks[1::2])

    by_request = dict(zip(map(id, requests_to(llava)), expected(llava), strict=True))
    assert [result_of(one) for one in asyncio.run(ask())] == [by_request[id(one)] for one in requests[1::2]]
    assert watched.turns < 30
    assert not scheduler._tickets
    assert not scheduler._admission


def test_no_turn_follows_the_end_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    second = SecondTurn()
    watched, scheduler = Watched(monkeypatch, second), scheduler_of()

    async def leave() -> None:
        tasks = [asyncio.create_task(scheduler.submit(one)) for one in requests_to(llava)]
        await asyncio.to_thread(second.reached.wait)
        assert not all(task.done() for task in tasks)
        threading.Timer(0.3, second.released.set).start()  # after the loop has begun to end

    run(leave())
    turns = watched.turns
    for _ in range(3):
        scheduler._thread.submit(lambda: None).result()
    assert watched.turns == turns
    assert not scheduler._admission


def test_the_limit_is_asked_for_once_and_its_error_is_the_callers() -> None:
    asked: list[int] = []

    def limit() -> int:
        asked.append(1)
        return 4

    scheduler = scheduler_of(limit)
    assert scheduler.generate(requests_to(llava)[:1])
    assert not asked  # the trial of a policy comes before the PRM is loaded
    asyncio.run(submitted(scheduler, requests_to(llava)[:5]))
    assert (len(asked), scheduler.max_rows) == (1, 4)

    def fails() -> int:
        raise RuntimeError("no device")

    (error,) = asyncio.run(submitted(scheduler_of(fails), requests_to(llava)[:1]))
    assert isinstance(error, RuntimeError)


@pytest.mark.parametrize("error", [CannotForkError("a mask of its own"), RuntimeError("misaligned address")])
def test_errors_reach_the_callers_and_the_scheduler_goes_on(error: Exception) -> None:
    scheduler, requests = scheduler_of(), requests_to(llava)[:3]

    def fail(*given: Any) -> None:
        raise error

    handle = loaded(llava).model.register_forward_pre_hook(fail)
    failed = asyncio.run(submitted(scheduler, requests))
    handle.remove()
    assert failed == [error] * 3
    outputs: list[Any] = asyncio.run(submitted(scheduler, requests))
    assert [result_of(one) for one in outputs] == expected(llava)[:3]


def test_a_forward_pass_that_exits_fails_its_request_and_no_run() -> None:
    scheduler = scheduler_of()

    def leave(*given: Any) -> None:
        raise SystemExit(3)

    handle = loaded(llava).model.register_forward_pre_hook(leave)
    (error,) = run(submitted(scheduler, requests_to(llava)[:1]))
    handle.remove()
    assert "exit(3)" in str(error)
    assert not isinstance(error, SystemExit)
