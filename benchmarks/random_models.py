"""Models with random weights: a LLaVA that sees an image in 576 tokens, and a text PRM that is read at a tag."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from atomthink_plugin.inference.checkpoints import Checkpoint, neutral
from atomthink_plugin.model_adapters.tiny import WEIGHTS
from atomthink_plugin.scorers.detect import PUBLISHED

SIDE, PATCH = 336, 14
IMAGE_TOKENS = (SIDE // PATCH) ** 2


@dataclass(frozen=True)
class Size:
    """Shapes of a policy's two halves and of a PRM, as their configs name them; `words` are added to the vocabulary."""

    vision: Mapping[str, int]
    text: Mapping[str, int]
    prm: Mapping[str, int]
    words: int


def _shape(width: int, inner: int, layers: int, heads: int, **more: int) -> dict[str, int]:
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    return {**dict(zip(names, (width, inner, layers, heads), strict=True)), **more}


SIZES = {
    "tiny": Size(_shape(32, 64, 1, 2), _shape(64, 128, 2, 4), _shape(64, 128, 2, 4, num_key_value_heads=2), 100),
    "40m": Size(_shape(256, 1024, 4, 4), _shape(512, 2048, 8, 8), _shape(512, 2048, 8, 8, num_key_value_heads=8), 0),
    "7b": Size(  # LLaVA 1.5 and Qwen2-7B
        _shape(1024, 4096, 24, 16),
        _shape(4096, 11008, 32, 32),
        _shape(3584, 18944, 28, 28, num_key_value_heads=4, vocab_size=152064),
        31_500,
    ),
}


def random_policy(size: Size, device: torch.device, dtype: torch.dtype) -> Checkpoint:
    """A LLaVA that ends no step by itself, so that steps are as long as they may be."""
    processor = LlavaProcessor.from_pretrained(WEIGHTS / "policy")
    processor.image_processor.size = processor.image_processor.crop_size = {"height": SIDE, "width": SIDE}
    processor.patch_size = PATCH
    words = processor.tokenizer
    words.add_tokens(_words(size))
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(image_size=SIDE, patch_size=PATCH, **size.vision),
        text_config=LlamaConfig(
            vocab_size=len(words),
            max_position_embeddings=4096,
            pad_token_id=words.pad_token_id,
            eos_token_id=words.eos_token_id,
            **size.text,
        ),
        image_token_id=words.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
        image_seq_length=IMAGE_TOKENS,
    )
    model = _random(LlavaForConditionalGeneration, config, device, dtype)
    model.generation_config = neutral(model.generation_config)
    _forbid(model, [at for at in range(len(words)) if at in words.all_special_ids or not _plain(words.decode([at]))])
    return Checkpoint(model, words, processor, "random LLaVA")


def random_prm(size: Size, device: torch.device, dtype: torch.dtype) -> Checkpoint:
    """A causal language model whose tokenizer has the tag and the two signs of AtomThink's PRM as tokens."""
    words = LlavaProcessor.from_pretrained(WEIGHTS / "policy").tokenizer
    words.add_tokens([PUBLISHED.tag, PUBLISHED.good, PUBLISHED.bad, *_words(size)])
    shape = {"vocab_size": len(words), **size.prm}
    config = Qwen2Config(max_position_embeddings=4096, pad_token_id=words.pad_token_id, **shape)
    return Checkpoint(_random(Qwen2ForCausalLM, config, device, dtype), words, None, "random PRM")


def _plain(text: str) -> bool:
    """Whether a token may stand anywhere in a step without ending it or the chain."""
    return text.isascii() and text.isprintable() and "answer" not in text.lower()


def _forbid(model: PreTrainedModel, tokens: list[int]) -> None:
    head = model.get_output_embeddings()
    bias = torch.zeros(head.weight.shape[0], dtype=head.weight.dtype, device=head.weight.device)
    bias[tokens] = -1e4
    head.bias = torch.nn.Parameter(bias, requires_grad=False)


def _words(size: Size) -> list[str]:
    """Added words: they are written and read back as the same tokens."""
    return [f" w{number}" for number in range(size.words)]


def _random(kind: Any, config: Any, device: torch.device, dtype: torch.dtype) -> PreTrainedModel:
    """A model made where it will run, in its precision: one of 7 B fits no laptop's memory twice."""
    before = torch.get_default_dtype()
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    try:
        with device:
            model: PreTrainedModel = kind(config)
    finally:
        torch.set_default_dtype(before)
    return model.eval().requires_grad_(False)
