"""Supervised pretraining of the vision tower.

Trained only through the language model, reading stays at chance for 450 iterations. With a classifier for the value of
every item, through one learned query per item, it leaves chance after 150 cheaper ones.
"""

from __future__ import annotations

import logging
import random
import time
from pathlib import Path
from typing import Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlavaForConditionalGeneration, get_scheduler

from atomthink_plugin.inference.checkpoint_files import choose_device
from atomthink_plugin.tasks.demo.questions import COLOURS
from atomthink_plugin.training.tiny.figures import Figures
from atomthink_plugin.training.tiny.muon import muon_with_adamw

log = logging.getLogger(__name__)

ITEMS: Final = tuple(f"{colour}{side}" for colour in COLOURS for side in ("", " width", " height"))
VALUES: Final = 31
BATCH: Final = 48
IGNORED: Final = -100
MUON: Final = 0.02
ADAMW: Final = 3e-3
WARMUP: Final = 50
GRAIN: Final = 8.0  # of 255


class Reader(nn.Module):
    """A classifier of all items' values on the tower's patches; not kept after pretraining."""

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
def connect(model: LlavaForConditionalGeneration, figures: Figures) -> None:
    """Initializes the projector so that the language model can distinguish patches from the first iteration on.

    The outputs of the pretrained tower have a large constant part, which is most of what a random projector passes on:
    reading stays at chance with it. This one removes the mean and scales each feature to unit variance.
    """
    shown = [pixels_of(figures.folder / figures.file(index)) for index in range(min(64, len(figures.all)))]
    patches = model.model.vision_tower(scaled(torch.stack(shown))).last_hidden_state[:, 1:].flatten(0, 1)
    first, second = model.model.multi_modal_projector.linear_1, model.model.multi_modal_projector.linear_2
    nn.init.orthogonal_(first.weight)
    first.weight /= patches.std(0)
    first.bias.copy_(-(first.weight @ patches.mean(0)))
    nn.init.orthogonal_(second.weight, gain=0.3)
    nn.init.zeros_(second.bias)


def pretrain(tower: nn.Module, width: int, figures: Figures, iterations: int, seed: int) -> None:
    """Trains the vision tower in place to predict the value of each item in the picture, on a GPU if there is one."""
    rng = random.Random(f"looking {seed}")
    device = choose_device()
    pictures = torch.stack([pixels_of(figures.folder / figures.file(index)) for index in range(len(figures.all))])
    values = torch.full((len(figures.all), len(ITEMS)), IGNORED)
    for row, figure in enumerate(figures.all):
        for name, value in figure.items:
            values[row, ITEMS.index(name)] = value
    pictures, values = pictures.to(device), values.to(device)
    reader = Reader(tower, width).train().to(device)
    optimizer = muon_with_adamw(reader, muon=MUON, learning_rate=ADAMW, betas=(0.9, 0.98))
    decay = {"num_decay_steps": round(0.6 * iterations), "decay_type": "linear"}
    schedule = get_scheduler("warmup_stable_decay", optimizer, WARMUP, iterations, scheduler_specific_kwargs=decay)
    started = time.process_time()
    for iteration in range(1, iterations + 1):
        chosen = torch.tensor(rng.choices(range(len(pictures)), k=BATCH), device=device)
        logits = reader(scaled(_varied(pictures[chosen], rng)))
        loss = functional.cross_entropy(logits.flatten(0, 1), values[chosen].flatten(), ignore_index=IGNORED)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if iteration % 100 == 0 or iteration == iterations:
            shown = values[chosen] != IGNORED
            right = (logits.argmax(-1) == values[chosen])[shown].float().mean().item()
            spent = time.process_time() - started
            log.info("looking %d/%d: loss %.3f, read %.3f, %.0f s", iteration, iterations, loss.item(), right, spent)
    tower.cpu()


def _varied(pictures: Tensor, rng: random.Random) -> Tensor:
    """Returns pictures moved by up to a pixel and with added noise, so that none occurs twice."""
    moved = torch.roll(pictures, (rng.randint(-1, 1), rng.randint(-1, 1)), (2, 3)).float()
    return (moved + torch.randn(moved.shape, device=moved.device) * rng.uniform(0, GRAIN)).clamp(0, 255)


def pixels_of(file: Path) -> Tensor:
    """Returns a picture of the model's size: uint8 [3, side, side]."""
    with Image.open(file) as image:
        return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)


def scaled(pixels: Tensor) -> Tensor:
    """Returns uint8 pixels as the image processor scales them: white paper is 0, black is -2."""
    return pixels.float() / 127.5 - 2
