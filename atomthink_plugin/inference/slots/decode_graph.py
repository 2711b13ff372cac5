"""A decode step as a CUDA graph, for any rows up to a number: one launch instead of a thousand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from atomthink_plugin.inference.phases import forward_pass, phase
from atomthink_plugin.inference.slots.decode_step import DecodeState, decode_step, results_of
from atomthink_plugin.inference.slots.graph_capture import RECORDING, GraphError
from atomthink_plugin.inference.slots.reader import SlotReader
from atomthink_plugin.inference.slots.row import Chunk, Row
from atomthink_plugin.inference.slots.transfers import Fetched, sent
from atomthink_plugin.inference.slots.varlen_attention import by_prefix


class DecodeGraph:
    """Decode steps of up to `size` rows, captured when the first rows are loaded.

    Args:
        reader: Has the rows' keys and values.
        size: Rows of each step; those that are not in use are copies of the first one that read and write one place.
    """

    def __init__(self, reader: SlotReader, size: int) -> None:
        self._reader, self._size, self._maker = reader, size, reader.maker
        self._plan = reader.plans.fixed(size, self._maker.spare(reader.pool), reader.pool.keys.shape[1])
        self._state: DecodeState | None = None
        self._replay: Callable[[], None] | None = None
        self._rows = torch.empty(0)

    def load(self, state: DecodeState, rows: Sequence[Row]) -> DecodeGraph:
        """Returns this graph, ready for the steps of these rows. Rows loaded before are forgotten.

        Args:
            state: The rows, of the same kind each time.
            rows: Where they are in the pool.

        Raises:
            GraphError: The first step of a new graph sampled other tokens than it should.
        """
        chunks = [Chunk(row, (0,)) for row in rows]
        order, device = by_prefix(chunks), state.integers.device
        padded = torch.tensor([*order, *order[:1] * (self._size - len(rows))])
        loaded = state.take(sent(padded, device), state.kind)
        if self._state is None:
            self._state = loaded
        else:
            for own, given in zip(_tensors(self._state), _tensors(loaded), strict=True):
                own.copy_(given)
        self._plan.load([chunks[at] for at in order])
        back = sorted(range(len(rows)), key=order.__getitem__)
        self._rows = sent(torch.tensor(back), device)
        if self._replay is None:
            self._record(self._state)
        return self

    def step(self) -> Fetched:
        """See `DecodeSteps`."""
        assert self._replay is not None
        assert self._state is not None
        with phase("decode"):
            forward_pass(len(self._rows), len(self._rows))
            self._replay()
        return results_of(self._state, self._rows)

    def state(self) -> DecodeState:
        """See `DecodeSteps`."""
        assert self._state is not None
        return self._state.take(self._rows, self._state.kind)

    def _record(self, state: DecodeState) -> None:
        """Captures a step. The loaded rows serve as the trial, and are as they were at the end."""
        kept = [(tensor, tensor.clone()) for tensor in (*_tensors(state), *self._plan.tensors)]

        def restore() -> None:
            for tensor, before in kept:
                tensor.copy_(before)

        with RECORDING, self._maker.layers.context(lambda: self._forward(state.ids, state.positions)):
            self._step(state)
            wanted = state.ids.clone()
            restore()
            replay = self._maker.capture(lambda: self._step(state), restore)
        restore()
        replay()
        same = float((state.ids == wanted).float().mean())
        restore()
        if same < 0.5:  # equal kernels give equal tokens; a tie in a few rows is no fault
            raise GraphError(f"a captured step samples other tokens in {1 - same:.0%} of the rows")
        self._replay = replay

    def _step(self, state: DecodeState) -> None:
        decode_step(state, self._forward)
        self._plan.advance()

    def _forward(self, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        return self._reader.forward(self._plan, ids, positions)


def _tensors(state: DecodeState) -> tuple[torch.Tensor, ...]:
    return state.integers, state.floats, state.watch, state.logprobs
