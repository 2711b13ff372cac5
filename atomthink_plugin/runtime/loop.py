"""An event loop of our own: callers may be plain code, a server's thread or a notebook."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_endings: dict[asyncio.AbstractEventLoop, list[Callable[[], object]]] = {}
"""What is to be called at the end of each loop that runs."""


def run(work: Coroutine[Any, Any, T]) -> T:
    """Runs `work` to its end on a new loop in a new thread and returns its result.

    An interrupt (Ctrl+C) of the caller cancels the work, waits for its clean-up and is raised again.
    """
    results: list[T] = []
    errors: list[BaseException] = []
    loop = asyncio.new_event_loop()
    endings = _endings[loop] = []
    task = loop.create_task(work)

    def main() -> None:
        asyncio.set_event_loop(loop)
        try:
            results.append(loop.run_until_complete(task))
        except BaseException as error:
            errors.append(error)
        finally:
            # Whatever still waits for this loop would wait for ever, a batcher's worker for one.
            rest = asyncio.all_tasks(loop)
            for left in rest:
                left.cancel()
            loop.run_until_complete(asyncio.gather(*rest, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
            # Closing the loop alone would leave the threads of its executor to end at some later time.
            loop.run_until_complete(loop.shutdown_default_executor())
            for end in endings:
                end()
            del _endings[loop]
            loop.close()

    thread = threading.Thread(target=main, name="atomthink-loop")
    thread.start()
    try:
        thread.join()
    except BaseException:
        with contextlib.suppress(RuntimeError):  # the work may end, and close the loop, right now
            loop.call_soon_threadsafe(task.cancel)
        thread.join()
        raise
    if errors:
        raise errors[0]
    return results[0]


def at_end(end: Callable[[], object]) -> None:
    """Has `end` called when the running loop ends, if that is one of `run`; callers end their own loops."""
    _endings.get(asyncio.get_running_loop(), []).append(end)
