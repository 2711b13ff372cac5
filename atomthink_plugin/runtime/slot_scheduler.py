"""Generation for all questions in one running batch, in the model's thread."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from atomthink_plugin.inference.checkpoints import Checkpoint
from atomthink_plugin.inference.decoding import GenerationOutput, GenerationRequest
from atomthink_plugin.inference.forward_passes import forward_passes
from atomthink_plugin.inference.phases import PhaseClock
from atomthink_plugin.inference.slots.admission import Admission, Ended, RowLimit
from atomthink_plugin.inference.slots.decode_runner import DecodeRunner
from atomthink_plugin.inference.slots.generation import Generation
from atomthink_plugin.inference.slots.reader import SlotReader
from atomthink_plugin.runtime.model_thread import model_thread

_SETTLE_TURNS: Final = 3
"""Loop turns without a new request before requests are handed over. A search needs a few turns to reach its next
call."""


@dataclass(eq=False)
class _Ticket:
    """A request whose caller waits.

    Attributes:
        sample: The request.
        loop: The caller's event loop.
        future: What the caller waits for.
    """

    sample: Generation
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[GenerationOutput]


class SlotScheduler:
    """Generates for requests as they come: rows join and leave a running batch at any step.

    The tokens of a request depend on its prompt and its draw alone, not on the rows beside it.

    Args:
        checkpoint: The model.
        limit: Bytes of keys and values that are kept for later prompts.
        max_rows: Rows of a batch at most, or what gives the number at the first request.
        size: Tokens of the pool; None for a pool that grows.
        clock: Measures the work.

    Raises:
        CannotForkError: The model's architecture does not allow it.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        limit: int,
        max_rows: int | Callable[[], int],
        size: int | None = None,
        clock: PhaseClock | None = None,
    ) -> None:
        self._checkpoint = checkpoint
        self._reader = SlotReader(checkpoint, limit, size)
        self._clock = clock or PhaseClock()
        self._limit = RowLimit(max_rows)
        self._runner = DecodeRunner(self._reader)
        self._admission = Admission(checkpoint, self._reader, self._runner, self._limit)
        self._tickets: dict[Generation, _Ticket] = {}
        self._lock = threading.Lock()  # of the three attributes below, which both sides change
        self._handed: list[Generation] = []
        self._cancelled = False
        self._busy = False
        self._settling: dict[asyncio.AbstractEventLoop, tuple[list[Generation], asyncio.Task[None]]] = {}
        self._thread = model_thread(checkpoint.device)

    @property
    def max_rows(self) -> int:
        """Rows of a batch at most. Running out of memory lowers it."""
        return self._limit.rows

    async def submit(self, request: GenerationRequest, urgency: int = 0) -> GenerationOutput:
        """Returns what is generated for a request, or raises its exception.

        With the depth of a path as the urgency, questions are finished before others are started. This bounds the
        memory of questions in progress.

        Raises:
            CannotForkError: The model's states turn out to be such that they cannot be forked.
            PoolFullError: The request does not fit into the pool.
        """
        _ = self.max_rows  # an error in finding the limit belongs to this caller, not to the thread
        loop = asyncio.get_running_loop()
        ticket = _Ticket(Generation(request, urgency), loop, loop.create_future())
        self._tickets[ticket.sample] = ticket
        if loop in self._settling:
            self._settling[loop][0].append(ticket.sample)
        else:
            samples = [ticket.sample]
            self._settling[loop] = samples, loop.create_task(self._settle(loop, samples))
        try:
            return await ticket.future
        except asyncio.CancelledError:
            ticket.sample.cancelled = True
            with self._lock:
                self._cancelled = True
            raise
        finally:
            self._tickets.pop(ticket.sample, None)

    def generate(self, rows: Sequence[GenerationRequest]) -> list[GenerationOutput]:
        """Generates for requests in the calling thread, which holds the checkpoint's lock.

        Raises:
            Exception: What the first request that fails has failed with.
        """
        admission = Admission(self._checkpoint, self._reader, self._runner, RowLimit(len(rows)))
        samples = [Generation(row) for row in rows]
        admission.add(samples)
        done: dict[Generation, GenerationOutput | Exception] = {}
        while admission:
            done.update(admission.turn())
        outputs = []
        for one in samples:
            output = done[one]
            if isinstance(output, Exception):
                raise output
            outputs.append(output)
        return outputs

    def forget(self) -> None:
        """Drops all kept keys and values."""
        self._reader.forget()

    async def _settle(self, loop: asyncio.AbstractEventLoop, samples: list[Generation]) -> None:
        """Gives other tasks turns until none of them adds to `samples`, and hands them over to the thread."""
        try:
            quiet, seen = 0, 0
            while quiet < _SETTLE_TURNS and len(samples) < self.max_rows:
                quiet, seen = quiet + 1 if len(samples) == seen else 0, len(samples)
                await asyncio.sleep(0)
        finally:
            del self._settling[loop]
        with self._lock:
            self._handed += samples
            starts, self._busy = not self._busy, True
        if starts:
            self._thread.end_with_loop()
            self._thread.submit(self._work)

    def _work(self) -> None:
        """Runs a step, and lets the next one wait for its turn, until nothing is left."""
        if not self._take():
            return
        with forward_passes(self._checkpoint), self._clock.active():
            self._reader.serve()
            ended = self._admission.turn()
        self._thread.rows = self._admission.rows
        self._hand_back(ended)
        self._thread.submit(self._work)

    def _take(self) -> bool:
        """Takes over what was handed to this thread; returns whether there is anything to do."""
        with self._lock:
            handed, self._handed = self._handed, []
            cancelled, self._cancelled = self._cancelled, False
            if not handed and not self._admission:
                self._busy = False
                return False
        self._admission.add(handed)
        if cancelled:
            self._admission.cancel()
        return True

    def _hand_back(self, ended: Ended) -> None:
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Ticket, GenerationOutput | Exception]]] = defaultdict(list)
        for sample, result in ended:
            if (ticket := self._tickets.get(sample)) is not None:
                by_loop[ticket.loop].append((ticket, result))
        for loop, results in by_loop.items():
            with contextlib.suppress(RuntimeError):  # the loop may have been closed
                loop.call_soon_threadsafe(_deliver, results)


def _deliver(results: Sequence[tuple[_Ticket, GenerationOutput | Exception]]) -> None:
    for ticket, result in results:
        if ticket.future.done():
            continue
        if isinstance(result, Exception):
            ticket.future.set_exception(result)
        else:
            ticket.future.set_result(result)
