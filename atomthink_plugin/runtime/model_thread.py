"""Threads in which models run: on a CPU one for all models, elsewhere one for each."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Final, TypeVar

import torch

from atomthink_plugin.runtime.event_loop import at_end

T = TypeVar("T")


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
        self._lock = threading.Lock()  # of the attributes below
        self._executor: ThreadPoolExecutor | None = None
        self._last: Future[Any] | None = None
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
            future = self._executor.submit(work)
            self._last = future
        return future

    def end_with_loop(self) -> None:
        """Lets the running loop wait at its end for what runs here."""
        loop = asyncio.get_running_loop()
        if loop not in self._loops:
            self._loops.add(loop)
            at_end(self._wait)

    def _wait(self) -> None:
        while (last := self._last) is not None and not last.done():
            wait([last])  # its work may have submitted more


_ON_CPU: Final = ModelThread("atomthink-cpu")


def model_thread(device: torch.device) -> ModelThread:
    """Returns the thread of a model on a device. A forward pass on a CPU uses all cores: models take turns there."""
    return _ON_CPU if device.type == "cpu" else ModelThread(f"atomthink-{device.type}")
