"""Captures work on a GPU as CUDA graphs, and what all graphs of one model share."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

import torch
from transformers import PreTrainedModel

from atomthink_plugin.inference.checkpoint_files import first_line
from atomthink_plugin.inference.memory import out_of_memory
from atomthink_plugin.inference.slots.compiled_layers import LayerCompiler
from atomthink_plugin.inference.slots.pool import KvPool

log = logging.getLogger(__name__)

Capture = Callable[[Callable[[], None], Callable[[], None]], Callable[[], None]]
"""Records what a function does on the device, and returns a function that does it again. Another undoes it."""

BUCKETS: Final = (8, 16, 32, 64, 96, 128, 192, 256, 384)
"""Tokens of captured forward passes. Those not in use cost next to nothing while reading the weights takes longest."""

RECORDING: Final = threading.RLock()
"""Held from a trial to the end of its capture: torch's allocator allows one capture at a time, and compiled layers
change transformers' table of attention functions."""

_WARM: Final = 2
"""Runs before a capture: kernels are chosen and loaded in them."""


class GraphError(Exception):
    """A captured graph computes something else than the same work without one."""


def bucket_of(tokens: int) -> int | None:
    """Returns the tokens of the smallest graph for so many; None if there is none."""
    return next((size for size in BUCKETS if size >= tokens), None)


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


class GraphMaker:
    """Makes the graphs of one model, until one of them fails.

    Attributes:
        failed: Whether one has failed.
        captured: How many were captured.
        layers: Compiles the model's layers.

    Args:
        model: The model.
        compiles: Whether graphs have compiled decoder layers.
        capture: Captures work on the model's device; by default as CUDA graphs.
    """

    def __init__(self, model: PreTrainedModel, *, compiles: bool = True, capture: Capture | None = None) -> None:
        self.failed, self.captured = False, 0
        self.layers = LayerCompiler(model, compiles)
        self._device, self._capture = model.device, capture
        self._spare: tuple[KvPool, int] | None = None

    def capture(self, work: Callable[[], None], undo: Callable[[], None]) -> Callable[[], None]:
        """See `Capture`."""
        self._capture = self._capture or cuda_capture(self._device)
        began = time.monotonic()
        replay = self._capture(work, undo)
        self.captured += 1
        log.info("captured CUDA graph %d in %.1f s", self.captured, time.monotonic() - began)
        return replay

    def spare(self, pool: KvPool) -> int:
        """Returns a place of the pool that nothing else uses."""
        if self._spare is None or self._spare[0] is not pool:
            self._spare = pool, pool.allocate(1).start
        return self._spare[1]

    def give_up(self, error: Exception) -> None:
        """Makes no graphs any more.

        Raises:
            Exception: `error`, if memory ran out.
        """
        if out_of_memory(error):
            raise error
        self.failed = True
        log.warning("forward passes run without CUDA graphs: %s: %s", type(error).__name__, first_line(error))
