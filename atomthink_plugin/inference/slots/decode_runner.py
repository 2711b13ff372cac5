"""The decode steps of a batch of rows: on CUDA as captured graphs, elsewhere one operation after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from atomthink_plugin.inference.phases import forward_pass, phase
from atomthink_plugin.inference.slots.decode_graph import DecodeGraph
from atomthink_plugin.inference.slots.decode_step import DecodeKind, DecodeState, decode_step, results_of
from atomthink_plugin.inference.slots.graph_capture import bucket_of
from atomthink_plugin.inference.slots.reader import SlotReader
from atomthink_plugin.inference.slots.row import Chunk, Row
from atomthink_plugin.inference.slots.transfers import Fetched, sent


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
        state: The samples, which the steps change.
        rows: Where they are in the pool.
        sources: For each sample the index of its row; None if each has a row of its own.
    """

    def __init__(
        self, reader: SlotReader, state: DecodeState, rows: Sequence[Row], sources: Sequence[int] | None = None
    ) -> None:
        self._reader, self._state = reader, state
        self._sources: torch.Tensor | None = None
        if sources is not None and len(rows) < len(sources):
            device = state.integers.device
            self._sources, self._firsts = (sent(one, device) for one in (torch.tensor(sources), firsts(sources)))
        self._plan = reader.plan([Chunk(row, (0,)) for row in rows])
        self._all = sent(torch.arange(len(state.ids)), state.integers.device)
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
            if self._sources is not None:
                ids, positions = ids[self._firsts], positions[self._firsts]
            forward_pass(len(ids), len(ids))
            logits = self._reader.forward(self._plan, ids, positions)
            return logits if self._sources is None else logits[self._sources]


class DecodeRunner:
    """Starts steps, each time in the fastest way that works.

    Args:
        reader: Has the rows' keys and values.
    """

    def __init__(self, reader: SlotReader) -> None:
        self.graphs: dict[tuple[int, DecodeKind], DecodeGraph] = {}
        self._reader = reader
        self._keys: torch.Tensor | None = None
        self._marks: torch.Tensor | None = None

    def start(self, state: DecodeState, rows: Sequence[Row], sources: Sequence[int] | None = None) -> DecodeSteps:
        """Returns the steps of rows that have read all their tokens but the last.

        Args:
            state: The samples.
            rows: Where they are in the pool.
            sources: See `EagerSteps`.
        """
        bucket = bucket_of(len(rows)) if len(rows) == len(state.ids) else None
        if bucket is not None and self._reader.plans.varlen and not self._reader.maker.failed:
            try:
                return self._graph(state, bucket).load(state, rows)
            except Exception as error:
                self.graphs.clear()
                self._reader.maker.give_up(error)
        return EagerSteps(self._reader, state, rows, sources)

    def _graph(self, state: DecodeState, bucket: int) -> DecodeGraph:
        """Returns a graph for these rows. Graphs hold addresses: none outlives the tensors that it was made with."""
        if self._reader.pool.keys is not self._keys or state.marks is not self._marks:
            self.graphs.clear()
            self._keys, self._marks = self._reader.pool.keys, state.marks
        key = (bucket, state.kind)
        if key not in self.graphs:
            self.graphs[key] = DecodeGraph(self._reader, bucket)
        return self.graphs[key]


def firsts(sources: Sequence[int]) -> torch.Tensor:
    """Returns the first place of each number from 0 on, in a list that has them in this order."""
    places: dict[int, int] = {}
    for at, source in enumerate(sources):
        places.setdefault(source, at)
    return torch.tensor([*places.values()], dtype=torch.int64)
