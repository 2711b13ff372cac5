"""The time of one decode step of the slots engine, beside the time in which the memory can be read."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from transformers import PreTrainedModel

from atomthink_plugin.api import Path, Question
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.inference.checkpoints import Checkpoint
from atomthink_plugin.inference.decoding import GenerationRequest
from atomthink_plugin.inference.encoding import Encoder
from atomthink_plugin.inference.forward_passes import forward_passes
from atomthink_plugin.inference.sampling import Draw
from atomthink_plugin.inference.slots.decode_runner import DecodeRunner
from atomthink_plugin.inference.slots.generation import Generation
from atomthink_plugin.inference.slots.graph_capture import GraphMaker
from atomthink_plugin.inference.slots.reader import SlotReader
from atomthink_plugin.inference.slots.running_batch import RunningBatch

COPIED = {"7b": 2**32, "40m": 2**28, "tiny": 2**22}
"""Bytes of the copy that measures the bandwidth."""

STEPS_BEFORE = 4
"""Decode steps that are not counted: graphs are captured in the first one."""


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def bandwidth(device: torch.device, size: int, times: int = 10) -> float:
    """Returns bytes per second, read and written, of the fastest of some copies of `size` bytes."""
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / min(seconds(partial(target.copy_, source), device) for _ in range(times))


def seconds(work: Callable[[], object], device: torch.device) -> float:
    wait(device)
    began = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - began


def weights_read(model: PreTrainedModel) -> int:
    """Returns the bytes of the weights that one decode step reads: not the vision tower, of embeddings a few rows."""
    language = model.get_decoder()
    head, table = model.get_output_embeddings().weight, model.get_input_embeddings().weight
    kept = {id(weight): weight.nbytes for weight in (*language.parameters(), head)}
    if head is not table:
        kept.pop(id(table), None)
    return sum(kept.values())


class DecodeSteps:
    """Rows of several questions that have sampled their first tokens.

    Args:
        checkpoint: The model; its lock is the caller's to hold.
        questions: The questions.
        rows: Rows of each.
        steps: Steps that are measured.
        graphs: Whether the steps are CUDA graphs, where there is a GPU.
        compiled: Whether graphs have compiled layers.
    """

    def __init__(
        self, checkpoint: Checkpoint, questions: Sequence[Question], rows: int, steps: int, graphs: bool, compiled: bool
    ) -> None:
        encoder = Encoder(checkpoint)
        prompts = [encoder.encode(Continue().render(Path(question))) for question in questions]
        room = STEPS_BEFORE + steps + 4
        draws = [Draw(seed, 0.8, max_tokens=room, stops=("\n\n",)) for seed in range(rows)]
        self._samples = [Generation(GenerationRequest(prompt, draw)) for prompt in prompts for draw in draws]
        # Extents are up to a quarter longer than what they hold, and each size has a region of its own.
        size = sum(5 * prompt.length // 4 for prompt in prompts) + (room + 96) * len(self._samples) + 2**14
        self.maker = GraphMaker(checkpoint.model, compiles=compiled)
        self.maker.failed = not graphs
        self._reader = SlotReader(checkpoint, 2**34, size, self.maker)
        self._batch = RunningBatch(checkpoint, self._reader, DecodeRunner(self._reader))
        self._batch.step(self._samples)

    def step(self, count: int) -> None:
        for _ in range(count):
            self._batch.step()

    def distinct_bytes(self) -> int:
        """Returns the bytes of keys and values that a step reads: shared ones once."""
        rows = [sample.row for sample in self._samples if sample.row is not None]
        assert len(rows) == len(self._samples)
        shared = {(row.shared.start, len(row.shared)) for row in rows}
        tokens = sum(length for _, length in shared) + sum(row.length for row in rows)
        return tokens * self._reader.pool.shape.token_bytes

    @property
    def attention(self) -> str:
        return "flash" if self._reader.plans.varlen else "dense"


def decode_step(
    checkpoint: Checkpoint,
    questions: Sequence[Question],
    rows: int,
    size: str,
    steps: int = 16,
    graphs: bool = True,
    compiled: bool = True,
) -> dict[str, Any]:
    """Returns the time of a decode step as it is in a search: the host reads what each step samples.

    Args:
        checkpoint: The model.
        questions: Questions with rows in the batch.
        rows: Rows of each question.
        size: Of the model, see `COPIED`.
        steps: Steps that are measured.
        graphs: See `DecodeSteps`.
        compiled: See `DecodeSteps`.
    """
    device = checkpoint.device
    with forward_passes(checkpoint):
        batch = DecodeSteps(checkpoint, questions, rows, steps, graphs, compiled)
        before = seconds(partial(batch.step, STEPS_BEFORE), device)
        step = seconds(partial(batch.step, steps), device) / steps
        states = batch.distinct_bytes()
    speed, weights = bandwidth(device, COPIED[size]), weights_read(checkpoint.model)
    return {
        "rows": rows * len(questions),
        "attention": batch.attention,
        "graphs": batch.maker.captured > 0 and not batch.maker.failed,
        "compiled": batch.maker.layers.used,
        "seconds_before": before,
        "step_ms": 1e3 * step,
        "floor_ms": 1e3 * weights / speed,
        "share_of_floor": weights / speed / step,
        "floor_with_states_ms": 1e3 * (weights + states) / speed,
        "share_of_floor_with_states": (weights + states) / speed / step,
        "bandwidth_gb_per_second": speed / 1e9,
        "weights_gb": weights / 1e9,
        "states_gb": states / 1e9,
    }
