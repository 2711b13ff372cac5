"""Rows of a running batch that have read a prompt of a tiny model, for tests of decode steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from atomthink_plugin.api import Path
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.inference.checkpoints import Checkpoint
from atomthink_plugin.inference.encoding import Encoder
from atomthink_plugin.inference.sampling import Draw
from atomthink_plugin.inference.slots.decode_step import DecodeKind, DecodeState, RowStart, sample
from atomthink_plugin.inference.slots.graph_capture import GraphMaker
from atomthink_plugin.inference.slots.reader import SlotReader
from atomthink_plugin.inference.slots.row import Chunk, Row
from tests.tiny_models import picture, question

STEPS = 6
"""Steps for which the rows have room."""


class StartedRows:
    """Rows of two questions, their first token sampled.

    Args:
        checkpoint: The model.
        draws: One for each row.
        maker: Makes graphs; without one there are none.
        encoder: Encodes the questions; by default as most models need it.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        draws: Sequence[Draw],
        maker: GraphMaker | None = None,
        encoder: Encoder | None = None,
    ) -> None:
        encoder = encoder or Encoder(checkpoint)
        asked = [encoder.encode(Continue().render(Path(question(text, picture(0))))) for text in ("How many?", "Why?")]
        self.reader = SlotReader(checkpoint, 2**30, maker=maker)
        self.reader.prepare(asked, [prompt.length - 1 for prompt in asked])
        prompts = [asked[at % 2] for at in range(len(draws))]
        started = [self.reader.start(prompt, prompt.length - 1, STEPS) for prompt in prompts]
        self.rows: list[Row] = [row for row, _ in started]
        chunks = [Chunk(row, rest) for row, rest in started]
        last = [sum(len(chunk.ids) for chunk in chunks[: at + 1]) - 1 for at in range(len(chunks))]
        logits = self.reader.pass_over(chunks, last)
        marks = torch.zeros(1, logits.shape[1], dtype=torch.bool, device=logits.device)
        starts = [RowStart(draw, row.position, 0) for draw, row in zip(draws, self.rows, strict=True)]
        self.state = DecodeState.of(starts, DecodeKind.of(draws), marks)
        sample(self.state, logits)
        if logits.device.type == "cpu":
            self.reader.plans.varlen = maker is not None

    def take(self, members: Sequence[int], state: DecodeState) -> tuple[DecodeState, list[Row]]:
        """Returns some of the rows of a state."""
        return state.take(torch.tensor(members, device=state.integers.device), state.kind), [
            self.rows[at] for at in members
        ]


def tokens_of(batch: Any, steps: int) -> list[list[int]]:
    """Returns what a batch samples in further steps."""
    return [batch.step().wait()[0][0].tolist() for _ in range(steps)]
