"""Runs asynchronous work in a new event loop, from plain code, a server's thread or a notebook."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_endings: dict[asyncio.AbstractEventLoop, contextlib.ExitStack] = {}
"""The functions to call at the end of each running loop."""


def run(work: Coroutine[Any, Any, T]) -> T:
    """Runs `work` on a new loop in a new thread and returns its result.

    An interrupt (Ctrl+C) cancels the work, waits until it is cleaned up, and is raised again.
    """
    results: list[T] = []
    errors: list[BaseException] = []
    loop = asyncio.new_event_loop()
    endings = _endings[loop] = contextlib.ExitStack()
    endings.callback(loop.close)
    endings.callback(_endings.pop, loop)
    task = loop.create_task(work)
    done = threading.Event()  # CPython 3.11 takes a thread for finished after its `join` was interrupted

    def main() -> None:
        asyncio.set_event_loop(loop)
        try:
            with endings:
                try:
                    results.append(loop.run_until_complete(task))
                except BaseException as error:
                    errors.append(error)
                _clean_up(loop)
        except BaseException as error:
            errors.append(error)
        finally:
            done.set()

    thread = threading.Thread(target=main, name="atomthink-loop")
    thread.start()
    try:
        done.wait()
        thread.join()
    except BaseException:
        with contextlib.suppress(RuntimeError):  # the work may end, and close the loop, right now
            loop.call_soon_threadsafe(task.cancel)
        done.wait()
        thread.join()
        raise
    if errors:
        raise errors[0]
    return results[0]


async def together(*work: Coroutine[Any, Any, T]) -> list[T]:
    """Runs all coroutines concurrently and returns their results in order.

    If one fails or the caller is cancelled, the others are cancelled. None of them runs after the call returns.
    """
    tasks = [asyncio.create_task(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def at_end(end: Callable[[], object]) -> None:
    """Registers `end` to be called when the running loop ends, if `run` started the loop."""
    if (endings := _endings.get(asyncio.get_running_loop())) is not None:
        endings.callback(end)


def _clean_up(loop: asyncio.AbstractEventLoop) -> None:
    # Tasks that still wait for this loop, a batcher's worker for example, would wait for ever.
    rest = asyncio.all_tasks(loop)
    for left in rest:
        left.cancel()
    loop.run_until_complete(asyncio.gather(*rest, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())
    # Closing the loop would not wait for the threads of its executor.
    loop.run_until_complete(loop.shutdown_default_executor())
