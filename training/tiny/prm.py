"""The process reward model: a likelihood that is trained to tell right steps from wrong ones.

    P(step is right) = sigmoid(scale * log p(step | image, question, earlier steps) + bias)

where log p is the sum over the step's tokens, from its first to the blank line that ends it (for the last
step: to the end of sequence). The softmax over the next token compares the written number with the right
one, which a separate '+'/'-' read-out has to learn first; see README.md.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlavaForConditionalGeneration

from atomthink_plugin.tasks.demo.questions import DemoQuestion
from atomthink_plugin.training.tiny.data import Codec, Pool, pixels_of, scaled
from atomthink_plugin.training.tiny.labels import corrupted_steps, verdicts
from atomthink_plugin.training.tiny.log import Log
from atomthink_plugin.training.tiny.optimise import Optimiser
from atomthink_plugin.training.tiny.rollouts import Chain, sample_chains

NLL_WEIGHT: Final = 0.1


@dataclass(frozen=True, slots=True)
class Judged:
    """A chain with the verdict on each of its steps."""

    prompt: list[int]
    steps: list[list[int]]
    right: list[bool]
    pixels: Tensor


class Calibration(nn.Module):
    """Scale and bias between a step's log-likelihood and its logit of being right."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.bias = nn.Parameter(torch.tensor(3.0))

    def forward(self, loglikelihood: Tensor) -> Tensor:
        """Returns the logit of the step being right."""
        return self.scale * loglikelihood + self.bias


def step_loglikelihoods(
    model: LlavaForConditionalGeneration, chains: Sequence[Judged], pad: int
) -> tuple[Tensor, Tensor]:
    """Returns each step's log-likelihood [chains, steps] and which entries are steps, same shape."""
    width = max(len(c.prompt) + sum(map(len, c.steps)) for c in chains)
    depth = max(len(c.steps) for c in chains)
    ids = torch.full((len(chains), width), pad)
    owner = torch.full((len(chains), width), depth)  # column `depth` collects what belongs to no step
    for row, chain in enumerate(chains):
        flat = [*chain.prompt, *(token for step in chain.steps for token in step)]
        ids[row, : len(flat)] = torch.tensor(flat)
        owners = [k for k, step in enumerate(chain.steps) for _ in step]
        owner[row, len(chain.prompt) : len(flat)] = torch.tensor(owners)
    pixels = scaled(torch.stack([chain.pixels for chain in chains]))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=model.training):
        logits = model(input_ids=ids, attention_mask=(ids != pad).long(), pixel_values=pixels).logits
    logprobs = logits[:, :-1].float().log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
    sums = torch.zeros(len(chains), depth + 1).scatter_add(1, owner[:, 1:], logprobs)
    return sums[:, :depth], torch.tensor([[k < len(c.steps) for k in range(depth)] for c in chains])


def judged(codec: Codec, question: DemoQuestion, steps: Sequence[str], pixels: Tensor) -> Judged:
    """Returns a finished chain with its exact labels."""
    return Judged(codec.prompt(question.text), codec.steps(steps), verdicts(question, steps), pixels)


def corrupted_chains(codec: Codec, pool: Pool) -> Iterator[Judged]:
    """Yields gold chains, three quarters of them with wrong numbers in some steps."""
    rng = random.Random("corruption")
    for question, pixels in pool.questions():
        clean = rng.random() < 0.25
        steps = question.steps if clean else corrupted_steps(question, rng)
        yield judged(codec, question, steps, pixels)


def policy_chains(
    policy: LlavaForConditionalGeneration, codec: Codec, pool: Pool, count: int
) -> tuple[list[Judged], list[Judged]]:
    """Returns the policy's own chains on `count` training questions: all right, and with a wrong step."""
    asked = list(islice(pool.questions(), count))
    sampled = sample_chains(policy, codec, [question for question, _ in asked], 1, 1.0, seed=31)
    clean: list[Judged] = []
    wrong: list[Judged] = []
    for (question, pixels), (chain,) in zip(asked, sampled, strict=True):
        if chain.answer is not None:
            record = judged(codec, question, chain.steps, pixels)
            (clean if all(record.right) else wrong).append(record)
    return clean, wrong


def train_prm(
    model: LlavaForConditionalGeneration,
    policy: LlavaForConditionalGeneration,
    codec: Codec,
    pool: Pool,
    iterations: int,
    log: Log,
    rollouts: int = 6000,
    batch: int = 32,
) -> dict[str, float]:
    """Trains `model` in place to judge steps; returns the calibration."""
    started = time.process_time()
    model.model.vision_tower.requires_grad_(False)
    clean, wrong = policy_chains(policy, codec, pool, rollouts)
    log(stage="rollouts", clean=len(clean), wrong=len(wrong), cpu_seconds=time.process_time() - started)
    fresh = corrupted_chains(codec, pool)
    rng = random.Random("rollouts")
    calibration = Calibration()
    optimiser = Optimiser(model, iterations, 0.01, 1e-3, decay=0.7, extra=calibration.parameters())
    model.train()
    for iteration in range(1, iterations + 1):
        own = rng.choices(wrong, k=round(0.5 * batch)) + rng.choices(clean, k=round(0.2 * batch))
        chains = [*own, *islice(fresh, batch - len(own))]
        sums, real = step_loglikelihoods(model, chains, codec.tokenizer.pad_token_id)
        right = torch.zeros_like(real)
        for row, chain in enumerate(chains):
            right[row, : len(chain.right)] = torch.tensor(chain.right)
        logits = calibration(sums)
        loss = functional.binary_cross_entropy_with_logits(logits[real], right[real].float())
        optimiser.step(loss - NLL_WEIGHT * sums[right].mean())
        if iteration % 25 == 0 or iteration == iterations:
            mine = real.clone()
            mine[len(own) :] = False
            log(
                stage="prm",
                iteration=iteration,
                bce=loss.item(),
                scale=calibration.scale.item(),
                bias=calibration.bias.item(),
                **_accuracy(logits, right, mine, "policy"),
                **_accuracy(logits, right, real & ~mine, "corrupted"),
                cpu_seconds=time.process_time() - started,
            )
    model.eval()  # type: ignore[no-untyped-call]
    return {"scale": calibration.scale.item(), "bias": calibration.bias.item()}


def _accuracy(logits: Tensor, right: Tensor, chosen: Tensor, name: str) -> dict[str, float]:
    """Returns the share of right steps accepted and of wrong steps rejected, at 0.5."""
    accepted = logits[chosen & right] > 0
    rejected = logits[chosen & ~right] <= 0
    return {f"{name}_good": accepted.float().mean().item(), f"{name}_bad": rejected.float().mean().item()}


@torch.inference_mode()
def score_chains(
    model: LlavaForConditionalGeneration,
    codec: Codec,
    calibration: dict[str, float],
    questions: Sequence[DemoQuestion],
    chains: Sequence[Sequence[Chain]],
    batch: int = 64,
) -> list[list[list[float]]]:
    """Returns the score of each step of each chain of each question; a chain that did not end gets 0."""
    scores = [[[0.0] for _ in group] for group in chains]
    todo: list[tuple[list[tuple[int, int]], Judged]] = []
    for q, (question, group) in enumerate(zip(questions, chains, strict=True)):
        pixels = pixels_of(question.figure)
        same: dict[tuple[str, ...], list[tuple[int, int]]] = {}
        for c, chain in enumerate(group):
            if chain.answer is not None:
                same.setdefault(chain.steps, []).append((q, c))
        todo += [(places, judged(codec, question, steps, pixels)) for steps, places in same.items()]
    todo.sort(key=lambda item: len(item[1].prompt) + sum(map(len, item[1].steps)))
    for start in range(0, len(todo), batch):
        some = todo[start : start + batch]
        sums, _ = step_loglikelihoods(model, [record for _, record in some], codec.tokenizer.pad_token_id)
        probabilities = torch.sigmoid(calibration["scale"] * sums + calibration["bias"])
        for (places, record), row in zip(some, probabilities.tolist(), strict=True):
            for q, c in places:
                scores[q][c] = row[: len(record.steps)]
    return scores
