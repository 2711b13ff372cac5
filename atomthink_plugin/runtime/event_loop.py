"""An event loop of our own: callers may be plain code, a server's thread or a notebook."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_endings: dict[asyncio.AbstractEventLoop, contextlib.ExitStack] = {}
"""What is called at the end of each loop that runs."""


def run(work: Coroutine[Any, Any, T]) -> T:
    """Runs `work` to its end on a new loop in a new thread and returns its result.

    An interrupt (Ctrl+C) of the caller cancels the work, waits for its clean-up and is raised again.
    """
    results: list[T] = []
    errors: list[BaseException] = []
    loop = asyncio.new_event_loop()
    endings = _endings[loop] = contextlib.ExitStack()
    endings.callback(loop.close)
    endings.callback(_endings.pop, loop)
    task = loop.create_task(work)
    done = threading.Event()  # CPython 3.11 takes a thread for ended once its `join` is interrupted

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
    """Runs all at the same time and returns their results in order.

    Where one fails, or the caller is cancelled, the others are cancelled: none goes on after the call.
    """
    tasks = [asyncio.create_task(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def at_end(end: Callable[[], object]) -> None:
    """Has `end` called when the running loop ends, if that is one of `run`; callers end their own loops."""
    if (endings := _endings.get(asyncio.get_running_loop())) is not None:
        endings.callback(end)


def _clean_up(loop: asyncio.AbstractEventLoop) -> None:
    # Whatever still waits for this loop would wait for ever, a batcher's worker for one.
    rest = asyncio.all_tasks(loop)
    for left in rest:
        left.cancel()
    loop.run_until_complete(asyncio.gather(*rest, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())
    # Closing the loop alone would leave the threads of its executor to end at some later time.
    loop.run_until_complete(loop.shutdown_default_executor())
