"""Batches the model calls of all questions."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Generic, TypeVar

from atomthink_plugin.exits import no_exit
from atomthink_plugin.inference.memory import out_of_memory
from atomthink_plugin.runtime.model_thread import ModelThread

Item = TypeVar("Item")
Result = TypeVar("Result")

log = logging.getLogger(__name__)

_SETTLE_TURNS: Final = 3
"""Loop turns without a new item before a batch starts. A search needs a few turns to reach its next call."""

_WORTH: Final = 4
"""Items wait until there is one for so many rows that run in the same thread: each batch takes time of its own."""


class MicroBatcher(Generic[Item, Result]):
    """Runs a batch function on the waiting items, in a separate thread.

    There is no timer: a batch starts as soon as every runnable task has had its turn. If the thread also runs a batch
    of rows, the items wait until there is one for four of these. Items that arrive while a batch runs go into the next
    one, the most urgent first. A batch that raises an exception is halved until the failing item is alone. That item
    gets the exception, the others get their results. Running out of memory halves the batch size for the rest of the
    run. A single item that runs out of memory is tried once more, because the batch function may have freed its caches.

    Args:
        run: Maps items to results of the same length and order.
        max_batch: The largest batch, or a function that returns it when the first batch begins.
        thread: Where batches run; None for a thread of its own.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Sequence[Result]],
        max_batch: int | Callable[[], int],
        thread: ModelThread | None = None,
    ) -> None:
        if isinstance(max_batch, int) and max_batch < 1:
            raise ValueError(f"max_batch must be at least 1, got {max_batch}")
        self._run = run
        self._limit = max_batch
        self._waiting: list[tuple[int, Item, asyncio.Future[Result]]] = []
        self._worker: asyncio.Task[None] | None = None
        self._thread = thread or ModelThread("atomthink-batch")

    @property
    def max_batch(self) -> int:
        """The current limit. Out-of-memory errors lower it."""
        if callable(self._limit):
            self._limit = self._limit()
        return self._limit

    async def submit(self, item: Item, urgency: int = 0) -> Result:
        """Waits for the item's turn and returns its result, or raises its exception.

        With the depth of a path as the urgency, questions are finished before others are started. This bounds the
        memory of questions in progress.
        """
        _ = self.max_batch  # an error in finding the limit belongs to this caller, not to the worker
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((urgency, item, future))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await future

    async def _work(self) -> None:
        while self._waiting:
            await self._settle()
            self._waiting.sort(key=lambda one: -one[0])
            batch = self._waiting[: self.max_batch]
            del self._waiting[: len(batch)]
            await self._serve([(item, future) for _, item, future in batch if not future.done()])

    async def _settle(self) -> None:
        """Gives other tasks turns until none of them adds an item and the batch is worth a turn, or full."""
        quiet, seen = 0, len(self._waiting)
        while quiet < _SETTLE_TURNS and len(self._waiting) < self.max_batch:
            await asyncio.sleep(0)
            quiet = quiet + 1 if len(self._waiting) == seen else 0
            seen = len(self._waiting)
        if not self._worth_a_turn():
            await self._thread.until(self._worth_a_turn)

    def _worth_a_turn(self) -> bool:
        return len(self._waiting) >= min(self.max_batch, self._thread.rows // _WORTH)

    async def _serve(self, batch: list[tuple[Item, asyncio.Future[Result]]], again: bool = False) -> None:
        if not batch:
            return
        try:
            with no_exit("the batch function"):
                results = await self._thread.run(partial(self._run, [item for item, _ in batch]))
            if len(results) != len(batch):
                raise RuntimeError(f"the batch function returned {len(results)} results for {len(batch)} items")
        except Exception as error:
            failure = error
        else:
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)
            return
        full = out_of_memory(failure)
        if len(batch) == 1 and (again or not full):
            if not batch[0][1].done():
                batch[0][1].set_exception(failure)
            return
        failure.__traceback__ = None  # it holds the failed batch's tensors
        if len(batch) == 1:
            await self._serve(batch, again=True)
        else:
            await self._halve(batch, full)

    async def _halve(self, batch: list[tuple[Item, asyncio.Future[Result]]], full: bool) -> None:
        half = len(batch) // 2
        if full:
            self._limit = min(self.max_batch, half)
            log.warning("Out of memory with %d rows. Continuing with batches of %d", len(batch), half)
        await self._serve(batch[:half])
        await self._serve(batch[half:])
