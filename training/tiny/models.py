"""Initial models: a LLaVA with a pretrained vision tower, and a trained policy with further layers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from transformers import (
    LlamaForCausalLM,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)

from atomthink_plugin.training.tiny.files import Figures
from atomthink_plugin.training.tiny.model import SIZE, Size, build_model, load, save
from atomthink_plugin.training.tiny.tokenizer import build_tokenizer
from atomthink_plugin.training.tiny.vision import connect, pretrain


def make_base(out: Path, figures: Figures, looking: int, seed: int, size: Size = SIZE) -> None:
    """Writes a LLaVA with a vision tower that is trained to read figures, and an untrained language model.

    Args:
        out: Folder of the checkpoint.
        figures: Training data of the tower.
        looking: Iterations of the tower's training.
        seed: Seed of the weights and of the order of the data.
        size: Widths and depths.
    """
    torch.manual_seed(seed)
    tokenizer = build_tokenizer()
    model = build_model(size, tokenizer)
    pretrain(model.model.vision_tower, size.vision_width, figures, looking, seed)
    connect(model, figures)
    save(model, tokenizer, out)


def make_grown(out: Path, model: Path, layers: int, eyes: Path | None, images: bool) -> None:
    """Writes a trained model with further layers on top, which do not change its output at first.

    Args:
        out: Folder of the checkpoint.
        model: The trained model.
        layers: Number of added layers.
        eyes: A checkpoint whose vision tower and projector replace those of the model; None to keep them.
        images: Whether to keep the vision tower; without, only the language model is written.
    """
    trained = load(model)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(model)
    size = replace(SIZE, text_layers=SIZE.text_layers + layers)
    grown = build_model(size, tokenizer)
    grown.load_state_dict(trained.state_dict(), strict=False)
    with torch.no_grad():
        for layer in grown.model.language_model.layers[SIZE.text_layers :]:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
    if eyes is not None:
        seeing = load(eyes)
        grown.model.vision_tower.load_state_dict(seeing.model.vision_tower.state_dict())
        grown.model.multi_modal_projector.load_state_dict(seeing.model.multi_modal_projector.state_dict())
    if images:
        save(grown, tokenizer, out)
    else:
        _language_model(grown).save_pretrained(out)
        tokenizer.save_pretrained(out)


def _language_model(model: LlavaForConditionalGeneration) -> LlamaForCausalLM:
    alone = LlamaForCausalLM(model.config.text_config)  # type: ignore[arg-type]
    alone.model.load_state_dict(model.model.language_model.state_dict())
    alone.tie_weights()
    return alone
