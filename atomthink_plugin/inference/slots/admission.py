"""Decides which waiting samples join the running batch, and what becomes of those whose step fails."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from atomthink_plugin.exits import no_exit
from atomthink_plugin.inference.checkpoints import Checkpoint
from atomthink_plugin.inference.decoding import GenerationOutput
from atomthink_plugin.inference.memory import out_of_memory
from atomthink_plugin.inference.model_calls import CannotForkError
from atomthink_plugin.inference.slots.allocator import PoolFullError
from atomthink_plugin.inference.slots.decode_runner import DecodeRunner
from atomthink_plugin.inference.slots.generation import Generation
from atomthink_plugin.inference.slots.reader import SlotReader
from atomthink_plugin.inference.slots.running_batch import RunningBatch, Stepped

log = logging.getLogger(__name__)

Ended = list[tuple[Generation, GenerationOutput | Exception]]
"""Samples with what was generated for them, or why nothing was."""

_WORTH: Final = 0.25
"""On a CPU, waiting samples join once they are so many for each running row: a pass takes time for each row, and
every change of rows costs time of its own. On an accelerator they join at once."""


class RowLimit:
    """Rows of a batch at most.

    Args:
        limit: The number, or what gives it when it is first asked for.
    """

    def __init__(self, limit: int | Callable[[], int]) -> None:
        self._limit = limit

    @property
    def rows(self) -> int:
        """The current limit."""
        if callable(self._limit):
            self._limit = self._limit()
        return self._limit

    def halve(self, failed: int) -> None:
        """Lowers the limit after a batch of `failed` rows ran out of memory."""
        if failed > 1:
            self._limit = min(self.rows, failed // 2)
            log.warning("Out of memory with %d rows. Continuing with batches of %d", failed, self._limit)


class Admission:
    """A running batch and the samples that wait for a place in it.

    A step that fails is repeated with half of its samples at a time, until the failing one is alone. It gets the
    exception. The others start again, and get the same tokens.

    Args:
        checkpoint: The model; its lock is the caller's to hold in `turn`.
        reader: Reads the prompts.
        runner: Runs decode steps.
        limit: Rows of the batch.
    """

    def __init__(self, checkpoint: Checkpoint, reader: SlotReader, runner: DecodeRunner, limit: RowLimit) -> None:
        self._reader, self._limit = reader, limit
        self._batch = RunningBatch(checkpoint, reader, runner)
        self._worth = _WORTH if checkpoint.device.type == "cpu" else 0.0
        self._waiting: list[Generation] = []
        self._cancelled = False
        self._full = False  # the pool refused a sample, and no row has ended since
        self._suspects: deque[list[Generation]] = deque()  # groups that run by themselves after a failure
        self._tried: set[Generation] = set()  # samples that ran out of memory alone

    def __bool__(self) -> bool:
        """Whether anything waits or runs."""
        return bool(self._waiting or self._suspects or len(self._batch))

    @property
    def rows(self) -> int:
        """Rows of the running batch."""
        return len(self._batch)

    def add(self, samples: Sequence[Generation]) -> None:
        """Lets samples wait, the most urgent first."""
        self._waiting = sorted([*self._waiting, *samples], key=lambda one: -one.urgency)

    def cancel(self) -> None:
        """Removes samples for which nobody waits any more, in the next turn."""
        self._cancelled = True

    def turn(self) -> Ended:
        """Runs one step; returns samples that have ended or failed."""
        tried = [*self._batch.samples]
        try:
            with no_exit("a forward pass"):
                if self._cancelled:
                    self._drop_cancelled()
                joining = self._joining()
                tried = [*self._batch.samples, *joining]
                stepped = self._batch.step(joining) if tried else Stepped([], [])
        except Exception as error:
            return self._isolate(tried, error)
        if stepped.ended:
            self._full = False
        if not stepped.refused:
            return [*stepped.ended]
        if not len(self._batch):
            return [*stepped.ended, *self._refuse(stepped.refused)]
        self._waiting = [*stepped.refused, *self._waiting]
        self._full = not stepped.ended
        return [*stepped.ended]

    def _drop_cancelled(self) -> None:
        self._cancelled = False
        self._waiting = [one for one in self._waiting if not one.cancelled]
        self._suspects = deque([one for one in group if not one.cancelled] for group in self._suspects)
        self._batch.drop([one for one in self._batch.samples if one.cancelled])

    def _joining(self) -> list[Generation]:
        running = len(self._batch)
        if not running:
            self._full = False
            while self._suspects:
                if group := self._suspects.popleft():
                    return group
        room = self._limit.rows - running
        if self._suspects or self._full or room <= 0 or len(self._waiting) < self._worth * running:
            return []
        joining, self._waiting = self._waiting[:room], self._waiting[room:]
        return joining

    def _refuse(self, refused: list[Generation]) -> Ended:
        """Deals with samples that do not fit into the empty pool; returns one that does not fit alone."""
        if len(refused) > 1:
            self._suspects.extend(_halves(refused))
            return []
        prompt, draw = refused[0].request.prompt, refused[0].request.draw
        error = PoolFullError(
            f"a prompt of {prompt.length} tokens and {draw.max_tokens} new ones do not fit into the memory for keys "
            f"and values, {self._reader.size} tokens: allow fewer new tokens, use a smaller image, or give it more "
            "memory"
        )
        return [(refused[0], error)]

    def _isolate(self, tried: list[Generation], error: Exception) -> Ended:
        """Repeats what failed in parts; returns a sample that failed alone, with its error."""
        self._batch.clear(tried)
        full = out_of_memory(error)
        if full:
            self._reader.forget()
            self._limit.halve(len(tried))
        if isinstance(error, CannotForkError):
            return [(one, error) for one in tried]
        if len(tried) > 1:
            error.__traceback__ = None  # it holds the failed pass's tensors
            self._suspects.extendleft(reversed(_halves(tried)))
            return []
        if full and tried[0] not in self._tried:
            error.__traceback__ = None
            self._tried.add(tried[0])  # what was kept is gone now
            self._suspects.appendleft(tried)
            return []
        self._tried.discard(tried[0])
        return [(tried[0], error)]


def _halves(samples: list[Generation]) -> list[list[Generation]]:
    half = len(samples) // 2
    return [samples[:half], samples[half:]]
