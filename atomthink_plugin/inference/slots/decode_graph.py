"""A decode step as a CUDA graph, for any rows up to a number: one launch instead of a thousand."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, Final

import torch

from atomthink_plugin.inference.checkpoint_files import first_line
from atomthink_plugin.inference.phases import forward_pass, phase
from atomthink_plugin.inference.slots.compiled_layers import compiled
from atomthink_plugin.inference.slots.decode_step import DecodeState, decode_step, results_of
from atomthink_plugin.inference.slots.reader import SlotReader
from atomthink_plugin.inference.slots.row import Chunk, Row
from atomthink_plugin.inference.slots.transfers import Fetched, sent

log = logging.getLogger(__name__)

Capture = Callable[[Callable[[], None], Callable[[], None]], Callable[[], None]]
"""Records what a function does on the device, and returns a function that does it again. Another undoes it."""

_NEAR: Final = 0.1
"""Largest difference of compiled layers' logits, as a share of the logits' own size."""

_WARM: Final = 2
"""Runs before a capture: kernels are chosen and loaded in them."""


class GraphError(Exception):
    """A captured step samples other tokens than the same step without a graph."""


def cuda_capture(device: torch.device) -> Capture:
    """Returns what captures CUDA graphs; all of them share their memory.

    Args:
        device: Where the model is.
    """
    memory, stream = torch.cuda.graph_pool_handle(), torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def capture(work: Callable[[], None], undo: Callable[[], None]) -> Callable[[], None]:
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for _ in range(_WARM):
                work()
                undo()
        torch.cuda.current_stream(device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # Another thread, such as that of a process reward model, may allocate memory during the capture.
        with torch.cuda.graph(graph, pool=memory, stream=stream, capture_error_mode="thread_local"):
            work()
        replay: Callable[[], None] = graph.replay
        return replay

    return capture


class DecodeGraph:
    """Decode steps of up to `size` rows, captured when the first rows are loaded.

    Args:
        reader: Has the rows' keys and values.
        size: Rows of each step; those that are not in use are copies of the first one that read and write one place.
        spare: That place.
        layers: Decoder layers to compile; empty for none.
        capture: Captures work on the device.
    """

    def __init__(self, reader: SlotReader, size: int, spare: int, layers: list[Any], capture: Capture) -> None:
        plan = reader.plans.fixed(size, spare, reader.pool.keys.shape[1])
        self._reader, self._size, self._plan = reader, size, plan
        self._layers, self._capture = layers, capture
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
        order = sorted(range(len(rows)), key=lambda at: (rows[at].shared.start, len(rows[at].shared)))
        device = state.integers.device
        padded = torch.tensor([*order, *order[:1] * (self._size - len(rows))])
        loaded = state.take(sent(padded, device), state.kind)
        if self._state is None:
            self._state = loaded
        else:
            for own, given in zip(_tensors(self._state), _tensors(loaded), strict=True):
                own.copy_(given)
        self._plan.load([Chunk(rows[at], (0,)) for at in order])
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
        began = time.monotonic()
        kept = [(tensor, tensor.clone()) for tensor in (*_tensors(state), *self._plan.tensors)]

        def restore() -> None:
            for tensor, before in kept:
                tensor.copy_(before)

        layers = self._compiling(state)
        with compiled(layers) if layers else nullcontext():
            self._step(state)
            wanted = state.ids.clone()
            restore()
            replay = self._capture(lambda: self._step(state), restore)
        restore()
        replay()
        same = float((state.ids == wanted).float().mean())
        restore()
        if same < 0.5:  # equal kernels give equal tokens; a tie in a few rows is no fault
            raise GraphError(f"a captured step samples other tokens in {1 - same:.0%} of the rows")
        self._replay = replay
        log.info("captured decode steps of %d rows in %.1f s", self._size, time.monotonic() - began)

    def _step(self, state: DecodeState) -> None:
        decode_step(state, self._forward)
        self._plan.advance()

    def _forward(self, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        return self._reader.forward(self._plan, ids, positions)

    def _compiling(self, state: DecodeState) -> list[Any]:
        """Returns the layers to compile: none if that fails, or changes the logits by more than rounding does."""
        if not self._layers:
            return []
        plain = self._forward(state.ids, state.positions).float()
        try:
            with compiled(self._layers):
                difference = self._forward(state.ids, state.positions).float() - plain
            off = float(difference.norm() / (plain - plain.mean()).norm())
            fault = "" if off < _NEAR else f"it changes the logits by {off:.0%}"
        except Exception as error:
            fault = f"{type(error).__name__}: {first_line(error)}"
        if fault:
            log.warning("decoder layers are not compiled: %s", fault)
            self._layers.clear()  # other graphs have the same list: it is tried once
        return self._layers


def _tensors(state: DecodeState) -> tuple[torch.Tensor, ...]:
    return state.integers, state.floats, state.watch, state.logprobs
