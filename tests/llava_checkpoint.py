"""Writes tiny checkpoints in the format of LLaVA's original code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionModel,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

from tests import tiny_models

WORDS = tiny_models.tokenizer(["<s>", "</s>", "<pad>"], bos_token="<s>", eos_token="</s>", pad_token="<pad>")
TEXT = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}


def original(folder: Path, tower: Path, with_tower: bool, **changes: Any) -> LlavaForConditionalGeneration:
    """Writes a checkpoint as LLaVA's code does, and returns the same model as transformers has it."""
    torch.manual_seed(0)
    rope = {"rope_type": "default", "rope_theta": changes.get("rope_theta", 10000.0)}
    text = LlamaConfig(vocab_size=len(WORDS), max_position_embeddings=512, rope_parameters=rope, **TEXT)
    vision = tiny_models.clip_vision()
    twin = LlavaForConditionalGeneration(
        LlavaConfig(vision_config=vision, text_config=text, image_token_index=len(WORDS))
    ).eval()
    for parameter in twin.parameters():
        if parameter.dim() == 2:
            parameter.data.mul_(4)
    eyes = twin.model.vision_tower
    weights = {
        **{f"model.{name}": value for name, value in twin.model.language_model.state_dict().items()},
        "lm_head.weight": twin.lm_head.weight,
        "model.mm_projector.0.weight": twin.model.multi_modal_projector.linear_1.weight,
        "model.mm_projector.0.bias": twin.model.multi_modal_projector.linear_1.bias,
        "model.mm_projector.2.weight": twin.model.multi_modal_projector.linear_2.weight,
        "model.mm_projector.2.bias": twin.model.multi_modal_projector.linear_2.bias,
    }
    if with_tower:
        names = (name.removeprefix("vision_model.") for name in eyes.state_dict())
        prefix = "model.vision_tower.vision_tower.vision_model."
        weights |= dict(zip((prefix + name for name in names), eyes.state_dict().values(), strict=True))
        eyes = CLIPVisionModel(vision)  # what the tower's own folder has is not what the checkpoint was trained to
    eyes.save_pretrained(tower)
    CLIPImageProcessorPil(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}).save_pretrained(tower)
    folder.mkdir()
    save_file({name: value.clone().contiguous() for name, value in weights.items()}, folder / "model.safetensors")
    WORDS.save_pretrained(folder)
    written = {
        **{key: value for key, value in text.to_dict().items() if key not in ("rope_parameters", "model_type")},
        "architectures": ["LlavaLlamaForCausalLM"],
        "model_type": "llava_llama",
        "torch_dtype": "float32",
        "image_aspect_ratio": "pad",
        "mm_hidden_size": 64,
        "mm_projector_type": "mlp2x_gelu",
        "mm_use_im_patch_token": False,
        "mm_use_im_start_end": False,
        "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": -2,
        "mm_vision_tower": str(tower),
        **changes,
    }
    (folder / "config.json").write_text(json.dumps(written))
    return twin
