"""Sampling whole chains from the policy, many at once: image and prompt are encoded once per question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from transformers import LlavaForConditionalGeneration

from atomthink_plugin.answers import final_answer
from atomthink_plugin.formats import SEPARATOR
from atomthink_plugin.tasks.demo.questions import DemoQuestion
from atomthink_plugin.training.tiny.data import Codec, scaled

LIMIT: Final = 150  # tokens of one reply; the longest gold chain has 131


@dataclass(frozen=True, slots=True)
class Chain:
    """One sampled reply.

    Attributes:
        steps: Its text, cut at blank lines.
        answer: The final answer it states; None if it states none or did not end.
    """

    steps: tuple[str, ...]
    answer: str | None

    def right(self, question: DemoQuestion) -> bool:
        """Whether the answer is the question's."""
        return self.answer == str(question.answer)


@torch.inference_mode()
def sample_chains(
    model: LlavaForConditionalGeneration,
    codec: Codec,
    asked: Sequence[tuple[DemoQuestion, Tensor]],
    count: int,
    temperature: float,
    seed: int,
    rows: int = 384,
) -> list[list[Chain]]:
    """Returns `count` chains for each question; temperature 0 is greedy.

    Args:
        model: The policy, in float32.
        codec: The tokenizer's wrapper.
        asked: Questions with their pixels.
        count: Chains per question.
        temperature: Sampling temperature.
        seed: Seed of all samples.
        rows: Chains that are sampled side by side.
    """
    generator = torch.Generator().manual_seed(seed)
    chains: list[list[Chain]] = []
    at_once = max(rows // count, 1)
    for start in range(0, len(asked), at_once):
        some = asked[start : start + at_once]
        prompts = [codec.prompt(question.text) for question, _ in some]
        pixels = scaled(torch.stack([shown for _, shown in some]))
        flat = _sample(model, prompts, pixels, count, temperature, generator, codec)
        chains += [flat[i : i + count] for i in range(0, len(flat), count)]
    return chains


def _sample(
    model: LlavaForConditionalGeneration,
    prompts: list[list[int]],
    pixels: Tensor,
    count: int,
    temperature: float,
    generator: torch.Generator,
    codec: Codec,
) -> list[Chain]:
    """Samples `count` replies to each prompt; rows that have ended leave the batch."""
    pad = codec.tokenizer.pad_token_id
    width = max(map(len, prompts))
    ids = torch.tensor([[pad] * (width - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    out = model(input_ids=ids, attention_mask=mask, pixel_values=pixels, use_cache=True, logits_to_keep=1)
    cache = out.past_key_values
    cache.batch_repeat_interleave(count)
    mask = mask.repeat_interleave(count, 0)
    logits = out.logits[:, -1].repeat_interleave(count, 0)
    tokens: list[list[int]] = [[] for _ in range(len(mask))]
    alive = torch.arange(len(mask))
    for _ in range(LIMIT):
        chosen = _choose(logits, temperature, generator)
        for row, token in zip(alive.tolist(), chosen.tolist(), strict=True):
            tokens[row].append(token)
        going = (chosen != codec.end).nonzero().flatten()
        if not len(going):
            break
        if len(going) < len(alive):
            cache.batch_select_indices(going)
            alive, chosen, mask = alive[going], chosen[going], mask[going]
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
        out = model(input_ids=chosen[:, None], attention_mask=mask, past_key_values=cache, use_cache=True)
        logits = out.logits[:, -1]
    return [_chain(ids, codec) for ids in tokens]


def _choose(logits: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    if temperature == 0:
        return logits.argmax(-1)
    return torch.multinomial((logits.float() / temperature).softmax(-1), 1, generator=generator)[:, 0]


def _chain(ids: list[int], codec: Codec) -> Chain:
    ended = ids[-1] == codec.end
    text = str(codec.tokenizer.decode(ids[:-1] if ended else ids))
    return Chain(tuple(text.split(SEPARATOR)), final_answer(text) if ended else None)
