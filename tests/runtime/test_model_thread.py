"""Models on a CPU take turns in one thread, and batches wait until they are worth a turn."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import torch

from atomthink_plugin.runtime.batcher import MicroBatcher
from atomthink_plugin.runtime.event_loop import run
from atomthink_plugin.runtime.model_thread import ModelThread, model_thread


def test_models_share_a_thread_on_a_cpu_alone() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert model_thread(cpu) is model_thread(cpu)
    assert model_thread(cuda) is not model_thread(cuda)


def test_work_is_done_in_order_and_what_it_submits_comes_last() -> None:
    thread, order = ModelThread("test"), list[str]()

    def first() -> None:
        order.append("first")
        thread.submit(lambda: order.append("next"))

    async def work() -> None:
        async def later() -> None:
            await thread.run(lambda: order.append("second"))

        hold = threading.Event()
        thread.submit(hold.wait)
        both = asyncio.gather(thread.run(first), later())
        await asyncio.sleep(0)
        hold.set()
        await both

    run(work())
    assert order == ["first", "second", "next"]


def test_a_loop_waits_at_its_end_for_what_runs_and_the_turn_after_it() -> None:
    thread, steps = ModelThread("test"), list[int]()
    release = threading.Event()

    def step() -> None:
        release.wait()
        steps.append(len(steps))
        if len(steps) < 2:
            thread.submit(step)

    async def work() -> None:
        thread.end_with_loop()
        thread.submit(step)
        threading.Timer(0.3, release.set).start()  # after the loop has begun to end

    run(work())
    assert steps == [0, 1]


def test_a_loop_ends_while_work_of_others_goes_on() -> None:
    thread, ended, steps = ModelThread("test"), threading.Event(), list[int]()

    def step() -> None:
        steps.append(len(steps))
        if not ended.is_set() and len(steps) < 100_000:
            thread.submit(step)

    thread.submit(step)
    run(thread.run(lambda: None))
    count = len(steps)
    ended.set()
    assert count < 100_000


def test_a_batch_waits_for_a_quarter_of_the_rows_that_run_beside_it() -> None:
    thread, sizes = ModelThread("test"), list[int]()
    rows = iter(range(16, -1, -4))

    def read(batch: Sequence[int]) -> list[int]:
        sizes.append(len(batch))
        return list(batch)

    def step() -> None:
        thread.rows = next(rows)
        if thread.rows:
            thread.submit(step)

    async def work() -> None:
        batcher = MicroBatcher(read, 64, thread)
        await thread.run(step)
        first = asyncio.gather(*(batcher.submit(item) for item in range(3)))
        await first
        assert thread.rows // 4 <= 3
        thread.rows = 0
        await batcher.submit(3)

    run(work())
    assert sizes == [3, 1]


def test_a_batch_without_enough_items_runs_once_no_row_is_left() -> None:
    thread, seen = ModelThread("test"), list[int]()
    left = 40

    def read(batch: Sequence[int]) -> list[int]:
        seen.append(thread.rows)
        return list(batch)

    def step() -> None:
        nonlocal left
        left -= 1
        thread.rows = 400 if left else 0
        if left:
            thread.submit(step)

    async def work() -> None:
        batcher = MicroBatcher(read, 64, thread)
        await thread.run(step)
        await batcher.submit(1)

    run(work())
    assert seen == [0]


def test_nobody_tests_a_condition_any_more_once_its_waiter_is_cancelled() -> None:
    thread, tests = ModelThread("test"), list[int]()

    async def work() -> None:
        waiter = asyncio.create_task(thread.until(lambda: tests.append(1) or False))  # type: ignore[func-returns-value]
        while not tests:
            await asyncio.sleep(0)
        waiter.cancel()
        await asyncio.gather(waiter, return_exceptions=True)

    run(work())  # its end waits until the thread has nothing to do
    count = len(tests)
    run(thread.run(lambda: None))
    assert len(tests) == count
