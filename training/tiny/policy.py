"""Supervised training: first to name what a figure shows, then to solve questions in the three prompt formats."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import torch
from transformers import LlavaForConditionalGeneration

from atomthink_plugin.training.tiny.data import (
    IGNORED,
    Batch,
    Codec,
    Pool,
    Row,
    batches,
    naming_rows,
    reading_rows,
    solving_rows,
)
from atomthink_plugin.training.tiny.log import Log
from atomthink_plugin.training.tiny.optimise import Optimiser


@dataclass(frozen=True, slots=True)
class Plan:
    """Iterations of each stage."""

    naming: int
    reading: int
    solving: int


BATCH: Final = 32
POLICY_PLAN: Final = Plan(naming=250, reading=120, solving=1400)
CONTROL_PLAN: Final = Plan(naming=0, reading=0, solving=5000)


def train_supervised(model: LlavaForConditionalGeneration, codec: Codec, pool: Pool, plan: Plan, log: Log) -> None:
    """Trains `model` in place: naming what a figure shows, reading behind a question, solving.

    The pretrained vision tower stays frozen: gradients from a language model that cannot read yet ruin it.
    """
    model.model.vision_tower.requires_grad_(False)
    stages: list[tuple[str, int, Iterator[Row]]] = [
        ("naming", plan.naming, naming_rows(codec, pool)),
        ("reading", plan.reading, reading_rows(codec, pool)),
        ("solving", plan.solving, solving_rows(codec, pool)),
    ]
    for name, iterations, rows in stages:
        if iterations == 0:
            continue
        _train_stage(model, batches(rows, BATCH, codec.tokenizer.pad_token_id), iterations, name, log)


def _train_stage(
    model: LlavaForConditionalGeneration, data: Iterator[Batch], iterations: int, name: str, log: Log
) -> None:
    model.train()
    optimiser = Optimiser(model, iterations)
    started = time.process_time()
    for iteration in range(1, iterations + 1):
        batch = next(data)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(**{k: v for k, v in batch.items() if k != "labels"}).logits[:, :-1].float()
        labels = batch["labels"][:, 1:]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
        optimiser.step(loss)
        if iteration % 50 == 0 or iteration == iterations:
            learned = labels != IGNORED
            right = (logits.argmax(-1) == labels)[learned].float().mean().item()
            log(
                stage=name,
                iteration=iteration,
                loss=loss.item(),
                token_accuracy=right,
                cpu_seconds=time.process_time() - started,
            )
