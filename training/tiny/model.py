"""The models: small LLaVA checkpoints with a CLIP tower, a projector and a Llama."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from atomthink_plugin.training.train.weight_names import hub_names

IMAGE_SIDE: Final = 112
PATCH: Final = 16
IMAGE_TOKENS: Final = (IMAGE_SIDE // PATCH) ** 2
HEADS: Final = 4


@dataclass(frozen=True, slots=True)
class Size:
    """Widths and depths of a model, shared by policy and PRM."""

    vision_width: int
    vision_layers: int
    text_width: int
    text_layers: int
    text_mlp: int


SIZE: Final = Size(vision_width=96, vision_layers=3, text_width=128, text_layers=3, text_mlp=384)


def build_model(size: Size, tokenizer: PreTrainedTokenizerFast) -> LlavaForConditionalGeneration:
    """Returns an untrained model of `size`."""
    vision = CLIPVisionConfig(
        hidden_size=size.vision_width,
        intermediate_size=3 * size.vision_width,
        num_hidden_layers=size.vision_layers,
        num_attention_heads=HEADS,
        image_size=IMAGE_SIDE,
        patch_size=PATCH,
        projection_dim=size.vision_width,
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.text_width,
        intermediate_size=size.text_mlp,
        num_hidden_layers=size.text_layers,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    config = LlavaConfig(  # type: ignore[call-arg]  # the base class's arguments are not in its stub
        vision_config=vision,
        text_config=text,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        image_seq_length=IMAGE_TOKENS,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return LlavaForConditionalGeneration(config)


def image_processor() -> CLIPImageProcessorPil:
    """Returns the processor that turns a figure into the tower's input; white paper becomes 0."""
    side = {"height": IMAGE_SIDE, "width": IMAGE_SIDE}
    return CLIPImageProcessorPil(
        size=side, do_center_crop=False, crop_size=side, image_mean=[1.0] * 3, image_std=[0.5] * 3
    )


def save(model: LlavaForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Writes a complete checkpoint: bfloat16 weights, configuration, processor, tokenizer."""
    processor = LlavaProcessor(  # type: ignore[no-untyped-call]
        image_processor=image_processor(),
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        chat_template=tokenizer.chat_template,
        num_additional_image_tokens=1,
    )
    processor.save_pretrained(folder)
    state = model.state_dict()
    weights: dict[str, Any] = {name: state[own].to(torch.bfloat16) for own, name in hub_names(model, state).items()}
    model.save_pretrained(folder, state_dict=weights)


def load(folder: Path) -> LlavaForConditionalGeneration:
    """Returns the model of a checkpoint in float32, ready for inference."""
    model: LlavaForConditionalGeneration = LlavaForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="sdpa"
    )
    model.eval()  # type: ignore[no-untyped-call]
    return model
