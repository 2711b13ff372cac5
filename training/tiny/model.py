"""The models: small LLaVA checkpoints with a CLIP tower, a projector and a Llama, new or made of trained ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from atomthink_plugin.training.tiny.figures import IMAGE_SIDE, Figures
from atomthink_plugin.training.tiny.tokenizer import build_tokenizer, extend
from atomthink_plugin.training.tiny.vision import connect, pretrain
from atomthink_plugin.training.train.weight_names import hub_names

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


def make_extended(out: Path, model: Path, texts: Sequence[str]) -> None:
    """Writes a trained model that reads and writes further texts as single tokens.

    The embedding of such a token starts as the mean of those of the text's tokens.

    Args:
        out: Folder of the checkpoint.
        model: The trained model.
        texts: The texts.
    """
    trained = load(model)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(model)
    known = len(tokenizer)
    before = extend(tokenizer, texts)
    trained.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():
        weight: Any = trained.get_input_embeddings().weight
        weight[known:] = torch.stack([weight[ids].mean(0) for ids in before])
    save(trained, tokenizer, out)


def _language_model(model: LlavaForConditionalGeneration) -> LlamaForCausalLM:
    alone = LlamaForCausalLM(model.config.text_config)  # type: ignore[arg-type]
    alone.model.load_state_dict(model.model.language_model.state_dict())
    alone.tie_weights()
    return alone
