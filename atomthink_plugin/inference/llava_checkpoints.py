"""Checkpoints in the format of LLaVA's original code (`llava_llama`), loaded as transformers' LLaVA.

Their config.json is a language model's with the vision tower's name in it, their weights have names of their own, the
tower's weights are often left out, and their tokenizer has no image token. All of that is adapted in memory; nothing is
written. Format: https://github.com/haotian-liu/LLaVA (`llava/model`), LLaVA-1.5: arXiv 2310.03744.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch
from transformers import (
    AddedToken,
    AutoConfig,
    AutoTokenizer,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProcessorMixin,
)
from transformers.models.llava.image_processing_llava import LlavaImageProcessor

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.inference.checkpoint_files import CheckpointRequest, explained, model_and_missing

IMAGE: Final = "<image>"

NAMES: Final[Mapping[str, str]] = {
    r"^model\.(embed_tokens|layers|norm)\.": r"model.language_model.\1.",
    r"^model\.mm_projector\.0\.": "model.multi_modal_projector.linear_1.",
    r"^model\.mm_projector\.2\.": "model.multi_modal_projector.linear_2.",
    r"^model\.vision_tower\.vision_tower\.": "model.vision_tower.",
}
"""LLaVA's names of weights and transformers' names, as `key_mapping` of `from_pretrained`."""

TEMPLATE: Final = (
    "{%- for message in messages -%}"
    "{%- if message['role'] != 'system' -%}{{ message['role'] | upper }}: {% endif -%}"
    "{%- if message['content'] is string -%}{{ message['content'] }}"
    "{%- else -%}{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'image' -%}{{ '<image>\n' }}{%- else -%}{{ part['text'] }}{%- endif -%}"
    "{%- endfor -%}{%- endif -%}"
    "{{ eos_token if message['role'] == 'assistant' else '\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}ASSISTANT:{%- endif -%}"
)
"""`USER: <image>\\n{question}\\nASSISTANT:`, as AtomThink's own evaluation asks (arXiv 2503.06252, published code)."""

_LANGUAGE_MODEL: Final = (frozenset(LlamaConfig().to_dict()) | {"rope_theta", "rope_scaling"}) - {
    "architectures",
    "model_type",
    "transformers_version",
}
"""What of a config.json is about the language model; transformers 5 reads the older names of the rotary embeddings."""


def in_llava_format(config: Mapping[str, Any]) -> bool:
    """Returns whether a config.json is of LLaVA's original code; some of them call themselves `llava` as well."""
    return config.get("model_type") == "llava_llama" or "LlavaLlamaForCausalLM" in (config.get("architectures") or ())


def load_llava_format(request: CheckpointRequest, config: Mapping[str, Any]) -> tuple[PreTrainedModel, ProcessorMixin]:
    """Loads a checkpoint of LLaVA's original code, and its vision tower if the weights do not include it.

    Args:
        request: What the user named.
        config: Its config.json.

    Returns:
        The model with one more row of embeddings, for the image token, and the processor.

    Raises:
        AtomThinkError: It is of a kind of LLaVA that this cannot be done for, or it cannot be loaded.
    """
    _require_llava_1_5(request, config)
    tower = _tower(config)
    with explained(_of_tower(request, tower)):
        vision = AutoConfig.from_pretrained(tower)
        images = LlavaImageProcessor.from_pretrained(tower, do_pad=config.get("image_aspect_ratio") == "pad")
    vision = getattr(vision, "vision_config", vision)
    if not isinstance(vision, CLIPVisionConfig):
        raise AtomThinkError(
            f"{request.argument}={request.pretrained!r}: its vision tower {tower!r} is of type {vision.model_type!r}, "
            "and only CLIP is supported: name a checkpoint that was converted for transformers"
        )
    text = LlamaConfig.from_dict({key: value for key, value in config.items() if key in _LANGUAGE_MODEL})
    with explained(request):
        tokenizer = AutoTokenizer.from_pretrained(request.pretrained, config=text, **request.source)
    whole = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=_image_token(tokenizer),
        vision_feature_layer=config.get("mm_vision_select_layer", -2),
        vision_feature_select_strategy="full" if config.get("mm_vision_select_feature") == "cls_patch" else "default",
        tie_word_embeddings=text.tie_word_embeddings,
        dtype=config.get("torch_dtype") or config.get("dtype"),
    )
    model = _model(request, tower, whole)
    processor = LlavaProcessor(  # type: ignore[no-untyped-call]
        images,
        tokenizer,
        patch_size=vision.patch_size,
        vision_feature_select_strategy=whole.vision_feature_select_strategy,
        num_additional_image_tokens=1,  # CLIP's class token
        chat_template=tokenizer.chat_template or TEMPLATE,
    )
    return model, processor


def _require_llava_1_5(request: CheckpointRequest, config: Mapping[str, Any]) -> None:
    """Refuses variants whose images are read in another way than LLaVA-1.5's."""
    faults = {
        "mm_projector_type": config.get("mm_projector_type") != "mlp2x_gelu",
        "image_aspect_ratio": config.get("image_aspect_ratio") not in (None, "square", "pad"),
        "mm_use_im_start_end": bool(config.get("mm_use_im_start_end")),
        "mm_vision_tower": not config.get("mm_vision_tower"),
    }
    found = [f"{key}={config.get(key)!r}" for key, fault in faults.items() if fault]
    if found:
        raise AtomThinkError(
            f"{request.argument}={request.pretrained!r} is in the format of LLaVA's original code, of which only "
            f"LLaVA-1.5 is supported, and its config.json has {', '.join(found)}: name the checkpoint that was "
            "converted for transformers (many are under llava-hf/ on the model hub)"
        )


def _tower(config: Mapping[str, Any]) -> str:
    """The vision tower's folder or id; a local path of its trainers becomes OpenAI's model of that name."""
    tower = str(config["mm_vision_tower"])
    foreign = Path(tower).is_absolute() and not Path(tower).is_dir()
    return f"openai/{Path(tower).name}" if foreign else tower


def _image_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """Returns the image token's id; the token is added to a tokenizer that does not have it."""
    if IMAGE not in tokenizer.get_vocab():
        tokenizer.add_tokens([AddedToken(IMAGE, special=True, normalized=False)], special_tokens=True)
    return tokenizer.get_vocab()[IMAGE]


def _model(request: CheckpointRequest, tower: str, config: LlavaConfig) -> PreTrainedModel:
    loaded, missing = model_and_missing(LlavaForConditionalGeneration, request, config=config, key_mapping=dict(NAMES))
    model: Any = loaded
    inner = model.model.vision_tower
    of_tower = {f"model.vision_tower.{name}" for name in inner.state_dict()}
    if lost := sorted(missing - of_tower):
        raise AtomThinkError(
            f"{request.argument}={request.pretrained!r} has no weights for {', '.join(lost[:3])}: "
            "the download is incomplete, or it is not a checkpoint of LLaVA-1.5"
        )
    if missing:
        with explained(_of_tower(request, tower)):
            eyes = CLIPVisionModel.from_pretrained(tower, dtype=model.dtype)
        inner.load_state_dict(eyes.state_dict())
    if config.image_token_index >= model.get_input_embeddings().num_embeddings:
        _add_row(model, config.image_token_index + 1)
    return loaded


def _of_tower(request: CheckpointRequest, tower: str) -> CheckpointRequest:
    """The request that loading the tower is, for messages."""
    return replace(request, pretrained=tower, argument="mm_vision_tower", revision=None)


def _add_row(model: Any, rows: int) -> None:
    """Adds embeddings for the image token: the mean of all others, so that it is never likely as an output."""
    known = model.get_input_embeddings().num_embeddings
    model.resize_token_embeddings(rows, mean_resizing=False)
    for embeddings in (model.get_input_embeddings(), model.get_output_embeddings()):
        with torch.no_grad():
            embeddings.weight[known:] = embeddings.weight[:known].float().mean(dim=0).to(embeddings.weight.dtype)
