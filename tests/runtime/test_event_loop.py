"""Threads and tasks after a run."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from dataclasses import replace

import pytest

from atomthink_plugin.api import Message, Question
from atomthink_plugin.config import plan
from atomthink_plugin.runtime.batcher import MicroBatcher
from atomthink_plugin.runtime.build import build
from atomthink_plugin.runtime.event_loop import at_end, run
from tests.openai_server import ChatServer, serve


@pytest.mark.slow
def test_no_thread_remains_after_a_run_on_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    questions = [Question(f"q{i}", (Message("user", (f"Question number {i}?",)),)) for i in range(40)]
    with serve(ChatServer()) as script:  # its own threads are daemons
        before = {thread for thread in threading.enumerate() if not thread.daemon}
        arguments = {"pretrained": "scripted", "base_url": script.url, "thinking": "slow", "search": "majority"}
        runner = replace(build(plan("openai", {**arguments, "continuation": "trust"})), concurrency=40)
        runner.run(questions)
        assert {thread for thread in threading.enumerate() if not thread.daemon} <= before


def test_a_batcher_keeps_its_thread_in_all_runs() -> None:
    threads: list[threading.Thread] = []

    def double(batch: Sequence[int]) -> list[int]:
        threads.append(threading.current_thread())
        return [2 * item for item in batch]

    batcher = MicroBatcher(double, 2)

    async def work() -> list[int]:
        first = await asyncio.gather(*(batcher.submit(item) for item in range(4)))
        return [*first, await batcher.submit(4)]

    for _ in range(2):
        assert run(work()) == [0, 2, 4, 6, 8]
    assert len(set(threads)) == 1


def test_an_interrupted_batch_ends_with_its_run() -> None:
    started, release = threading.Event(), threading.Event()
    ended: list[bool] = []

    def hold(batch: Sequence[int]) -> list[int]:
        started.set()
        release.wait()
        ended.append(True)
        return list(batch)

    batcher = MicroBatcher(hold, 2)

    async def work() -> None:
        task = asyncio.create_task(batcher.submit(1))
        await asyncio.to_thread(started.wait)
        task.cancel()
        asyncio.get_running_loop().call_soon(release.set)

    run(work())
    assert ended == [True]


def waits(thread: int) -> bool:
    """Whether a thread that called `run` has started the loop's thread and waits for it."""
    called = {frame.f_code.co_name for frame, _ in traceback.walk_stack(sys._current_frames()[thread])}
    return bool(called & {"wait", "join"}) and "start" not in called


def test_an_interrupt_waits_for_the_clean_up() -> None:
    returned = threading.Event()
    ended: list[bool] = []
    main = threading.main_thread().ident
    assert main is not None

    async def work() -> None:
        while not waits(main):
            await asyncio.sleep(0.001)
        signal.pthread_kill(main, signal.SIGINT)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.to_thread(returned.wait, 0.5)  # the event is set only if `run` does not wait
            ended.append(not returned.is_set())

    def interrupted() -> None:
        try:
            run(work())
        finally:
            returned.set()

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            interrupted()
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended == [True]


def test_an_end_that_fails_is_raised_and_leaks_neither_the_loop_nor_other_ends() -> None:
    loops: list[asyncio.AbstractEventLoop] = []
    ended: list[str] = []

    def fail() -> None:
        ended.append("failed")
        raise ValueError("no end")

    async def work() -> None:
        loops.append(asyncio.get_running_loop())
        at_end(lambda: ended.append("before"))
        at_end(fail)
        at_end(lambda: ended.append("after"))

    with pytest.raises(ValueError, match="no end"):
        run(work())
    assert sorted(ended) == ["after", "before", "failed"]
    assert loops[0].is_closed()
