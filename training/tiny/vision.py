"""Supervised pretraining of the vision tower, so that the language model has something to read.

Trained only through the language model, reading stayed at chance for 450 iterations; a direct read-out of
every item's value through one learned query per item leaves chance after 150 cheaper ones.
"""

from __future__ import annotations

import random
import time
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlavaForConditionalGeneration

from atomthink_plugin.tasks.demo.questions import COLOURS
from atomthink_plugin.training.tiny.data import IGNORED, Pool, scaled
from atomthink_plugin.training.tiny.log import Log
from atomthink_plugin.training.tiny.optimise import Optimiser

ITEMS: Final = tuple(f"{colour}{side}" for colour in COLOURS for side in ("", " width", " height"))
VALUES: Final = 31
BATCH: Final = 48


class Reader(nn.Module):
    """A read-out of all items' values from the tower's patches; thrown away after pretraining."""

    def __init__(self, tower: nn.Module, width: int) -> None:
        super().__init__()
        self.tower = tower
        self.query_embeds = nn.Parameter(0.5 * torch.randn(len(ITEMS), width))
        self.norm = nn.LayerNorm(width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.head = nn.Linear(width, VALUES)

    def forward(self, pixels: Tensor) -> Tensor:
        """Returns logits [pictures, items, values]."""
        patches = self.norm(self.tower(pixels).last_hidden_state[:, 1:])
        attention = self.query_embeds @ self.key(patches).transpose(1, 2) / patches.shape[-1] ** 0.5
        logits: Tensor = self.head(attention.softmax(-1) @ self.value(patches))
        return logits


@torch.no_grad()
def connect(model: LlavaForConditionalGeneration, pool: Pool) -> None:
    """Starts the projector so that patches look different to the language model from the first iteration.

    The pretrained tower's outputs share a large constant part; a random projector passes on little else, and
    reading through it stayed at chance. This one removes the mean and scales each feature to unit variance.
    """
    rng = random.Random("connect")
    pixels = torch.stack([pool.figure(rng)[1] for _ in range(64)])
    patches = model.model.vision_tower(scaled(pixels)).last_hidden_state[:, 1:].flatten(0, 1)
    first, second = model.model.multi_modal_projector.linear_1, model.model.multi_modal_projector.linear_2
    nn.init.orthogonal_(first.weight)
    first.weight /= patches.std(0)
    first.bias.copy_(-(first.weight @ patches.mean(0)))
    nn.init.orthogonal_(second.weight, gain=0.3)
    nn.init.zeros_(second.bias)


def pretrain_tower(tower: nn.Module, width: int, pool: Pool, iterations: int, log: Log) -> None:
    """Trains the vision tower in place to tell the value of each item in the picture."""
    reader = Reader(tower, width).train()
    optimiser = Optimiser(reader, iterations)
    rng = random.Random("looking")
    started = time.process_time()
    for iteration in range(1, iterations + 1):
        chosen = [pool.figure(rng) for _ in range(BATCH)]
        values = torch.full((BATCH, len(ITEMS)), IGNORED)
        for row, (figure, _) in enumerate(chosen):
            for name, value in figure.items:
                values[row, ITEMS.index(name)] = value
        logits = reader(scaled(torch.stack([pixels for _, pixels in chosen])))
        loss = functional.cross_entropy(logits.flatten(0, 1), values.flatten(), ignore_index=IGNORED)
        optimiser.step(loss)
        if iteration % 50 == 0 or iteration == iterations:
            shown = values != IGNORED
            right = (logits.argmax(-1) == values)[shown].float().mean().item()
            log(
                stage="looking",
                iteration=iteration,
                loss=loss.item(),
                read_accuracy=right,
                cpu_seconds=time.process_time() - started,
            )
