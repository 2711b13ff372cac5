"""Compares a way of decoding with the model's own `generate` on a few prompts, before the first question."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Final

import torch
from transformers import LogitsProcessor

from atomthink_plugin.api import Prompt
from atomthink_plugin.inference import trial
from atomthink_plugin.inference.checkpoint_files import first_line
from atomthink_plugin.inference.checkpoints import Checkpoint, end_ids
from atomthink_plugin.inference.decoding import Decoder, GenerationOutput, GenerationRequest, generated, reply_ids
from atomthink_plugin.inference.encoding import Encoder, Encoding, collate
from atomthink_plugin.inference.sampling import Completion, Draw
from atomthink_plugin.inference.text_processor import TextProcessor

log = logging.getLogger(__name__)

_TOKENS: Final = 5
"""Tokens that each prompt generates."""


@dataclass(frozen=True, slots=True)
class Expected:
    """A row and what plain greedy `generate` makes of it alone.

    Attributes:
        row: The row.
        ids: The generated ids, an end token included.
        logprobs: The model's log-probabilities there, `[tokens, vocabulary]`, float32 on the CPU.
    """

    row: GenerationRequest
    ids: list[int]
    logprobs: torch.Tensor

    def distance(self, got: Completion) -> float:
        """Returns by how many nats per token `got` differs.

        Where another token was chosen, it is what that token lies below the best one: the rounding decides between
        tokens that are nearly equal. A reply that ends early differs infinitely.
        """
        for at, (token, expected) in enumerate(zip_longest(got.token_ids, self.ids)):
            if token is None or expected is None:
                return float("inf")
            if token != expected:
                return float(self.logprobs[at].max() - self.logprobs[at, token])
        chosen = self.logprobs.gather(1, torch.tensor(self.ids)[:, None]).sum()
        return abs(got.logprob - float(chosen)) / len(self.ids)


@dataclass(frozen=True, slots=True)
class Trial:
    """Rows of one kind: a short prompt, a longer one, and one that extends the first."""

    rows: tuple[Expected, ...]
    slack: float

    def fault(self, decoder: Decoder) -> str | None:
        """Says how `decoder` differs from plain `generate`, None if it does not.

        A shorter prompt shares a batch with the longest one, so that it is padded. The extension comes second,
        so that a cache holds its beginning.
        """
        short, long, later = self.rows
        for batch in ((short, long), (later, long)):
            try:
                replies = _replies(decoder, [one.row for one in batch])
            except Exception as error:
                return trial.reason_of(error)
            far = max(one.distance(reply.completion) for one, reply in zip(batch, replies, strict=True))
            if not far <= self.slack:  # so that a distance that is no number counts as far
                return f"its reply is another one than that of `generate` (by {far:.2g} nats per token)"
        return None


def _replies(decoder: Decoder, rows: Sequence[GenerationRequest]) -> list[GenerationOutput]:
    """Generates rows in one batch if their inputs have one structure; no other rows ever share one."""
    if len({row.prompt.structure for row in rows}) == 1:
        return decoder.generate(rows)
    return [reply for row in rows for reply in decoder.generate([row])]


def trials(checkpoint: Checkpoint, encoder: Encoder) -> tuple[list[Trial], frozenset[bool]]:
    """Returns what the model gives by itself for questions with an image and without, and which of them it fails at.

    The second value holds `True` if it fails with an image and `False` if it fails without. Questions that do not fit
    into the context are left out. The caller holds the checkpoint's lock.

    Raises:
        Exception: What the model or its processor raised, if they answer neither kind of question.
    """
    made: list[Trial] = []
    failed: dict[bool, Exception] = {}
    kinds = (False,) if isinstance(checkpoint.processor, TextProcessor) else (True, False)
    for images in kinds:
        try:
            prompts = _prompts(encoder, images)
            if min(encoder.fit(prompt, _TOKENS) for prompt in prompts) == _TOKENS:
                slack = trial.SLACK[checkpoint.model.dtype == torch.float32]
                made.append(Trial(tuple(_expected(checkpoint, prompt) for prompt in prompts), slack))
        except Exception as error:
            failed[images] = error
    if len(failed) == len(kinds):
        raise failed[kinds[0]]
    for images, failure in failed.items():
        level, which = (logging.WARNING, "with an image") if images else (logging.INFO, "without an image")
        reason = f"{type(failure).__name__}: {first_line(failure)}"
        log.log(level, "%s fails at questions %s (%s)", checkpoint.identity, which, reason)
    return made, frozenset(failed)


def first_fault(tried: Sequence[Trial], decoder: Decoder) -> str | None:
    """Says how `decoder` differs from plain `generate` in the first trial where it does, None if in none."""
    return next((fault for one in tried if (fault := one.fault(decoder))), None)


def _prompts(encoder: Encoder, images: bool) -> list[Encoding]:
    short, long = (encoder.encode(Prompt(question.messages)) for question in trial.questions(images))
    return [short, long, short.extend(encoder.pieces([trial.STEPS[0] + "\n\n"]))]


def _expected(checkpoint: Checkpoint, prompt: Encoding) -> Expected:
    inputs, seen = collate([prompt], checkpoint, "left"), _Seen()
    given = inputs["input_ids"].clone()
    model: Any = checkpoint.model
    ids: list[int] = reply_ids(model, generated(model, inputs, _TOKENS, seen), given)[0].tolist()
    ends = end_ids(checkpoint)
    ids = ids[: next((at + 1 for at, token in enumerate(ids) if token in ends), len(ids))]
    return Expected(
        GenerationRequest(prompt, Draw(seed=0, max_tokens=_TOKENS)), ids, torch.stack(seen.logprobs[: len(ids)])
    )


class _Seen(LogitsProcessor):
    """Records the log-probabilities of one row at each token."""

    def __init__(self) -> None:
        self.logprobs: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Returns the scores as they are."""
        self.logprobs.append(torch.log_softmax(scores[0].float(), dim=-1).cpu())
        return scores
