"""Threads in which models run: on a CPU one for all models, elsewhere one for each."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

import torch

from atomthink_plugin.runtime.event_loop import at_end

T = TypeVar("T")

_TURNS: Final = 2
"""Turns for which a loop waits at its end: the one that runs, and the next one, which drops what was cancelled."""


class ModelThread:
    """A thread that does one piece of work after the other, in the order in which they come.

    It lasts for the whole run: libraries keep plans and handles for each thread.

    Attributes:
        rows: Rows of a running batch whose forward passes take turns with other work here.

    Args:
        name: Of the thread.
    """

    def __init__(self, name: str) -> None:
        self.rows = 0
        self._name = name
        self._lock = threading.Lock()  # of the next attribute
        self._executor: ThreadPoolExecutor | None = None
        self._loops: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()

    async def run(self, work: Callable[[], T]) -> T:
        """Returns the result of work, or raises its exception."""
        self.end_with_loop()
        return await asyncio.wrap_future(self.submit(work))

    async def until(self, ready: Callable[[], bool]) -> None:
        """Waits for a condition, which is looked at here between other work."""
        self.end_with_loop()
        reached: Future[None] = Future()

        def look() -> None:
            if reached.cancelled():
                return
            if not ready():
                self.submit(look)
            elif reached.set_running_or_notify_cancel():
                reached.set_result(None)

        self.submit(look)
        await asyncio.wrap_future(reached)

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Returns a future of work. May be called from the thread itself, for what comes next."""
        with self._lock:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(1, thread_name_prefix=self._name)
            return self._executor.submit(work)

    def end_with_loop(self) -> None:
        """Lets the running loop wait at its end until nothing of it runs here; work of other loops may go on."""
        loop = asyncio.get_running_loop()
        if loop not in self._loops:
            self._loops.add(loop)
            at_end(self._wait)

    def _wait(self) -> None:
        for _ in range(_TURNS):
            self.submit(_nothing).result()


def _nothing() -> None:
    """Takes a turn."""


_ON_CPU: Final = ModelThread("atomthink-cpu")


def model_thread(device: torch.device) -> ModelThread:
    """Returns the thread of a model on a device. A forward pass on a CPU uses all cores: models take turns there."""
    return _ON_CPU if device.type == "cpu" else ModelThread(f"atomthink-{device.type}")
