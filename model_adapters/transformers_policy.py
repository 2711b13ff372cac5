"""Any image-text-to-text checkpoint of transformers as a policy."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from pydantic import PositiveInt
from transformers import LogitsProcessorList, StoppingCriteriaList

from atomthink_plugin.api import Path, Proposal, QuestionError, Sampling, Step, Usage
from atomthink_plugin.checkpoints import Checkpoint, end_ids, load_multimodal
from atomthink_plugin.formats import Format
from atomthink_plugin.model_adapters.sampling import Completion, Draw, GumbelProcessor, StepEnd, complete
from atomthink_plugin.prompting import Encoder, Encoding, collate, group
from atomthink_plugin.runtime.batcher import MicroBatcher

_ROOM: Final = 32
"""Tokens that must be free in the context for a step to be worth starting."""


@dataclass(frozen=True, slots=True)
class Row:
    """One sample of one path: what the policy's batcher gathers."""

    prompt: Encoding
    draw: Draw


class TransformersPolicy:
    """Samples steps from a checkpoint in this process, batched over all questions that wait.

    A row's tokens depend on its prompt and its seed alone, not on its companions in the batch.

    Args:
        checkpoint: The loaded model; several policies may share it.
        format: How paths are asked.
        batch_size: Rows in one batch at most.
    """

    def __init__(self, checkpoint: Checkpoint, format: Format, *, batch_size: int = 8) -> None:
        self.identity = checkpoint.identity
        self._checkpoint = checkpoint
        self._format = format
        self._ends = end_ids(checkpoint)
        self._encoder = Encoder(checkpoint)
        self._batcher: MicroBatcher[Row, Completion] = MicroBatcher(self.generate, batch_size)

    async def propose(self, path: Path, n: int, sampling: Sampling) -> Proposal:
        """Samples `n` next steps of `path`, or whole replies if the format is not stepwise.

        Greedy samples of one node are one text, generated once. A chain that fills the context has
        no next step: the proposal is empty.

        Raises:
            QuestionError: The question itself is empty, too long, or has a broken image.
        """
        if not path.question.text.strip():
            raise QuestionError("the question has no text")
        prompt = self._format.render(path)
        encoding = self._encoder.encode(prompt)
        room = min(_ROOM, sampling.max_tokens)
        limit = self._encoder.fit(encoding, sampling.max_tokens)
        if limit < room:
            if path.depth:
                return Proposal(())
            raise self._encoder.too_long(encoding, room)
        draws = [_draw(path, index, sampling, limit, prompt.stops) for index in range(n)]
        distinct = list(dict.fromkeys(draws))
        replies = await asyncio.gather(*(self._batcher.submit(Row(encoding, draw)) for draw in distinct))
        reply_of = dict(zip(distinct, replies, strict=True))
        usage = Usage(
            policy_calls=n,
            generated=sum(reply.generated for reply in replies),
            prefilled=len(distinct) * encoding.length,
            images=len(distinct) * encoding.images,
        )
        return Proposal(tuple(_step(reply_of[draw]) for draw in draws), usage)

    def generate(self, rows: Sequence[Row]) -> list[Completion]:
        """Generates rows in as few forward passes as their shapes allow; results in the rows' order."""
        completions: dict[int, Completion] = {}
        with self._checkpoint.lock, torch.inference_mode():
            for indices in group([row.prompt for row in rows]):
                batch = self._generate([rows[index] for index in indices])
                completions.update(zip(indices, batch, strict=True))
        return [completions[index] for index in range(len(rows))]

    def _generate(self, rows: Sequence[Row]) -> list[Completion]:
        draws = [row.draw for row in rows]
        inputs = collate([row.prompt for row in rows], self._checkpoint, "left")
        prompt = inputs["input_ids"].shape[1]
        sampler = GumbelProcessor(draws, prompt, self._checkpoint.device)
        end = StepEnd(draws, self._checkpoint.tokenizer, prompt)
        model: Any = self._checkpoint.model  # the base class's type does not name the mixin that generates
        output = model.generate(
            **inputs,
            max_new_tokens=max(draw.max_tokens for draw in draws),
            pad_token_id=self._checkpoint.pad_id,
            logits_processor=LogitsProcessorList([sampler]),
            stopping_criteria=StoppingCriteriaList([end]),
        )
        ids = output[:, prompt:].tolist()
        logprobs = sampler.logprobs.tolist()
        return [
            complete(
                ids[at][: end.length(at)],
                logprobs[at],
                draw,
                self._checkpoint.tokenizer,
                self._ends,
            )
            for at, draw in enumerate(draws)
        ]


def transformers_policy(
    pretrained: str,
    *,
    format: Format,
    revision: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
    batch_size: PositiveInt = 8,
    chat_template: str | None = None,
    trust_remote_code: bool = False,
) -> TransformersPolicy:
    """Loads a checkpoint and makes it a policy; arguments as in `load_multimodal`.

    Raises:
        AtomThinkError: The checkpoint cannot be loaded or used.
    """
    checkpoint = load_multimodal(
        pretrained,
        revision=revision,
        dtype=dtype,
        device=device,
        trust_remote_code=trust_remote_code,
        chat_template=chat_template,
    )
    return TransformersPolicy(checkpoint, format, batch_size=batch_size)


def _draw(path: Path, index: int, sampling: Sampling, limit: int, stops: tuple[str, ...]) -> Draw:
    temperature = sampling.temperature_of(index)
    if temperature == 0:  # one draw for all greedy samples: filters and seeds do not change an argmax
        return Draw(seed=0, max_tokens=limit, stops=stops)
    return Draw(sampling.seed_of(path, index), temperature, sampling.top_k, sampling.top_p, limit, stops)


def _step(completion: Completion) -> Step:
    return Step(completion.text.strip(), completion.token_ids, completion.logprob, completion.finish)
