"""The decode steps of a batch of rows: on CUDA as captured graphs, elsewhere one operation after the other."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

import torch
from transformers import PreTrainedModel

from atomthink_plugin.inference.checkpoint_files import first_line
from atomthink_plugin.inference.memory import out_of_memory
from atomthink_plugin.inference.phases import forward_pass, phase
from atomthink_plugin.inference.slots.compiled_layers import layers_of
from atomthink_plugin.inference.slots.decode_graph import Capture, DecodeGraph, cuda_capture
from atomthink_plugin.inference.slots.decode_step import DecodeKind, DecodeState, decode_step, results_of
from atomthink_plugin.inference.slots.reader import SlotReader
from atomthink_plugin.inference.slots.row import Chunk, Row
from atomthink_plugin.inference.slots.transfers import Fetched, sent

log = logging.getLogger(__name__)

BUCKETS = (8, 16, 32, 64, 96, 128, 192, 256, 384)
"""Rows of a captured graph; rows that are not in use cost next to nothing where reading the weights takes longest."""


class DecodeSteps(Protocol):
    """Rows that take steps together, until any joins or leaves."""

    def step(self) -> Fetched:
        """Lets each row read its last token and sample the next one; returns `results_of` the rows."""
        ...

    def state(self) -> DecodeState:
        """Returns the rows as they are now, by the order in which they were given."""
        ...


class EagerSteps:
    """Steps of any rows on any device.

    Args:
        reader: Has the rows' keys and values.
        state: The rows, which the steps change.
        rows: Where they are in the pool.
    """

    def __init__(self, reader: SlotReader, state: DecodeState, rows: Sequence[Row]) -> None:
        self._reader, self._state = reader, state
        self._plan = reader.plan([Chunk(row, (0,)) for row in rows])
        self._all = sent(torch.arange(len(rows)), state.integers.device)
        self._begun = False

    def step(self) -> Fetched:
        """See `DecodeSteps`."""
        if self._begun:
            with phase("cache"):
                self._plan.advance()
        self._begun = True
        with phase("sample"):
            decode_step(self._state, self._forward)
        return results_of(self._state, self._all)

    def state(self) -> DecodeState:
        """See `DecodeSteps`."""
        return self._state

    def _forward(self, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        with phase("decode"):
            forward_pass(len(ids), len(ids))
            return self._reader.forward(self._plan, ids, positions)


class DecodeRunner:
    """Starts batches, each with the fastest way to run its steps that works.

    Args:
        model: The model.
        reader: Has the rows' keys and values.
        compiles: Whether captured graphs have compiled decoder layers.
        capture: Captures work on the device.
    """

    def __init__(
        self, model: PreTrainedModel, reader: SlotReader, *, compiles: bool = True, capture: Capture | None = None
    ) -> None:
        self.graphs: dict[tuple[int, DecodeKind], DecodeGraph] = {}
        self._reader, self._layers = reader, layers_of(model) if compiles else []
        self._capture = capture
        self._spare: int | None = None
        self._bound: tuple[int, ...] = ()
        self._failed = False

    def start(self, state: DecodeState, rows: Sequence[Row]) -> DecodeSteps:
        """Returns the batch of rows that have read all their tokens but the last.

        Args:
            state: The rows.
            rows: Where they are in the pool.
        """
        if not self._failed and len(rows) <= BUCKETS[-1] and self._reader.plans.varlen:
            try:
                return self._graph(state, len(rows)).load(state, rows)
            except Exception as error:
                if out_of_memory(error):
                    raise
                self._give_up(error)
        return EagerSteps(self._reader, state, rows)

    def _graph(self, state: DecodeState, count: int) -> DecodeGraph:
        """Returns a graph for these rows. Graphs hold addresses: none outlives the tensors that it was made with."""
        bound = (self._reader.pool.keys.data_ptr(), self._reader.pool.values.data_ptr(), state.marks.data_ptr())
        if bound != self._bound:
            self.graphs.clear()
            self._bound = bound
        if self._spare is None:
            self._spare = self._reader.pool.allocate(1).start
            self._capture = self._capture or cuda_capture(self._reader.pool.shape.device)
        assert self._capture is not None
        bucket = next(size for size in BUCKETS if size >= count)
        key = (bucket, state.kind)
        if key not in self.graphs:
            self.graphs[key] = DecodeGraph(self._reader, bucket, self._spare, self._layers, self._capture)
        return self.graphs[key]

    def _give_up(self, error: Exception) -> None:
        self.graphs.clear()
        self._failed = True
        log.warning("decode steps run without CUDA graphs: %s: %s", type(error).__name__, first_line(error))
