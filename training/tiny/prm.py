"""The process reward model: a likelihood that is trained to tell right steps from wrong ones.

    P(step is right) = sigmoid(scale * log p(step | image, question, earlier steps) + bias)

where log p is the sum over the step's tokens, from its first to the blank line that ends it (for the last
step: to the end of sequence). The softmax over the next token compares the written number with the right
one, which a separate '+'/'-' read-out has to learn first; see README.md.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlavaForConditionalGeneration

from atomthink_plugin.tasks.demo.questions import DemoQuestion
from atomthink_plugin.training.tiny.data import Codec, Pool, pixels_of, scaled
from atomthink_plugin.training.tiny.judged import NOBODY, Judged, claim_rows, corrupted_chains, judged
from atomthink_plugin.training.tiny.log import Log
from atomthink_plugin.training.tiny.optimise import Optimiser
from atomthink_plugin.training.tiny.rollouts import Chain, sample_chains

NLL_WEIGHT: Final = 0.2  # of the right steps' likelihood, which keeps the PRM a reader and a calculator
EVERY: Final = 50  # iterations between two lines of the log


@dataclass(frozen=True, slots=True)
class Round:
    """One round on chains, with new ones of the policy.

    Attributes:
        iterations: How long.
        rollouts: Chains sampled from the policy, one per question.
    """

    iterations: int
    rollouts: int


@dataclass(frozen=True, slots=True)
class JudgingPlan:
    """What the PRM is trained on.

    Attributes:
        claims: Iterations on calculations alone.
        rounds: Then on chains and calculations, each with a learning-rate schedule of its own.
    """

    claims: int
    rounds: tuple[Round, ...]


CLAIM_ROWS: Final = 32
OWN_WRONG, OWN_CLEAN, CORRUPTED, CLAIMS_BESIDE = 12, 4, 8, 8  # rows of a batch on chains
PRM_PLAN: Final = JudgingPlan(claims=1500, rounds=(Round(2500, 16_000), Round(1300, 10_000)))


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
    model: LlavaForConditionalGeneration, rows: Sequence[Judged], pad: int
) -> tuple[Tensor, Tensor]:
    """Returns each step's log-likelihood [rows, steps] and which entries are steps, same shape."""
    width = max(len(row.ids) for row in rows)
    depth = max(len(row.right) for row in rows)
    ids = torch.full((len(rows), width), pad)
    owner = torch.full((len(rows), width), NOBODY)
    for index, row in enumerate(rows):
        ids[index, : len(row.ids)] = torch.tensor(row.ids)
        owner[index, : len(row.ids)] = torch.tensor(row.owners)
    owner[owner == NOBODY] = depth  # the column that is cut off below
    pictures = [row.pixels for row in rows if row.pixels is not None]
    pixels = scaled(torch.stack(pictures)) if pictures else None
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=model.training):
        logits = model(input_ids=ids, attention_mask=(ids != pad).long(), pixel_values=pixels).logits
    logprobs = logits[:, :-1].float().log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
    sums = torch.zeros(len(rows), depth + 1).scatter_add(1, owner[:, 1:], logprobs)
    return sums[:, :depth], torch.tensor([[k < len(row.right) for k in range(depth)] for row in rows])


def policy_chains(
    policy: LlavaForConditionalGeneration, codec: Codec, pool: Pool, count: int, seed: int
) -> tuple[list[Judged], list[Judged]]:
    """Returns the policy's own chains on `count` training questions: all right, and with a wrong step."""
    asked = list(islice(pool.questions(), count))
    sampled = sample_chains(policy, codec, asked, 1, 1.0, seed)
    clean: list[Judged] = []
    wrong: list[Judged] = []
    for (question, pixels), (chain,) in zip(asked, sampled, strict=True):
        if chain.answer is not None:
            record = judged(codec, question, chain.steps, pixels)
            (clean if all(record.right) else wrong).append(record)
    return clean, wrong


class Judging:
    """One stage of the PRM's training: a model, its calibration, an optimiser, a log."""

    def __init__(
        self,
        name: str,
        model: LlavaForConditionalGeneration,
        calibration: Calibration,
        iterations: int,
        muon: float,
        adam: float,
        pad: int,
        log: Log,
    ) -> None:
        self._name, self._log, self._pad = name, log, pad
        self._model, self._calibration, self._iterations = model, calibration, iterations
        self._optimiser = Optimiser(model, iterations, muon, adam, decay=0.7, extra=calibration.parameters())
        self._started = time.process_time()
        self._iteration = 0

    def step(self, parts: dict[str, Sequence[Judged]]) -> None:
        """Takes one step on all rows; each part, all of it with images or all without, is a forward pass of its own."""
        self._iteration += 1
        logging = self._iteration % EVERY == 0 or self._iteration == self._iterations
        logits, verdicts, likelihoods = [], [], []
        accuracy: dict[str, float] = {}
        for name, rows in parts.items():
            sums, real = step_loglikelihoods(self._model, rows, self._pad)
            right = torch.tensor([verdict for row in rows for verdict in row.right])
            logits.append(self._calibration(sums[real]))
            verdicts.append(right)
            likelihoods.append(sums[real][right])
            if logging:
                accuracy |= _accuracy(name, logits[-1], right)
        bce = functional.binary_cross_entropy_with_logits(torch.cat(logits), torch.cat(verdicts).float())
        self._optimiser.step(bce - NLL_WEIGHT * torch.cat(likelihoods).mean())
        if logging:
            self._log(
                stage=self._name,
                iteration=self._iteration,
                bce=bce.item(),
                scale=self._calibration.scale.item(),
                bias=self._calibration.bias.item(),
                **accuracy,
                cpu_seconds=time.process_time() - self._started,
            )


def train_prm(
    model: LlavaForConditionalGeneration,
    policy: LlavaForConditionalGeneration,
    codec: Codec,
    pool: Pool,
    plan: JudgingPlan,
    log: Log,
) -> dict[str, float]:
    """Trains `model` in place to judge steps; returns the calibration."""
    model.model.vision_tower.requires_grad_(False)
    model.train()
    calibration, pad = Calibration(), codec.tokenizer.pad_token_id
    claims = claim_rows(codec, seed=3)
    stage = Judging("claims", model, calibration, plan.claims, 0.02, 2e-3, pad, log)
    for _ in range(plan.claims):
        stage.step({"claims": list(islice(claims, CLAIM_ROWS))})

    for number, part in enumerate(plan.rounds):
        judge_chains(model, calibration, policy, codec, pool, part, number, log)
    model.eval()  # type: ignore[no-untyped-call]
    return {"scale": calibration.scale.item(), "bias": calibration.bias.item()}


def judge_chains(
    model: LlavaForConditionalGeneration,
    calibration: Calibration,
    policy: LlavaForConditionalGeneration,
    codec: Codec,
    pool: Pool,
    part: Round,
    number: int,
    log: Log,
) -> None:
    """Trains `model` and `calibration` for one round; `number` is the seed of what is drawn for it."""
    started = time.process_time()
    clean, wrong = policy_chains(policy, codec, pool, part.rollouts, seed=31 + number)
    log(stage="rollouts", clean=len(clean), wrong=len(wrong), cpu_seconds=time.process_time() - started)
    corrupted, claims = corrupted_chains(codec, pool, number), claim_rows(codec, seed=30 + number)
    rng = random.Random(f"rollouts {number}")
    stage = Judging("chains", model, calibration, part.iterations, 0.01, 1e-3, codec.tokenizer.pad_token_id, log)
    for _ in range(part.iterations):
        own = rng.choices(wrong, k=OWN_WRONG) + rng.choices(clean, k=OWN_CLEAN)
        beside = list(islice(claims, CLAIMS_BESIDE))
        stage.step({"policy": own, "corrupted": list(islice(corrupted, CORRUPTED)), "claims": beside})


def _accuracy(name: str, logits: Tensor, right: Tensor) -> dict[str, float]:
    """Returns the share of right steps accepted and of wrong steps rejected, at 0.5."""
    accepted, rejected = logits[right] > 0, logits[~right] <= 0
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
    todo.sort(key=lambda item: len(item[1].ids))
    for start in range(0, len(todo), batch):
        some = todo[start : start + batch]
        sums, _ = step_loglikelihoods(model, [record for _, record in some], codec.tokenizer.pad_token_id)
        probabilities = torch.sigmoid(calibration["scale"] * sums + calibration["bias"])
        for (places, record), row in zip(some, probabilities.tolist(), strict=True):
            for q, c in places:
                scores[q][c] = row[: len(record.right)]
    return scores
