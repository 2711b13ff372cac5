"""Checkpoints in the format of InternVL's original code (`internvl_chat`), loaded as transformers' InternVL.

Their weights have names of their own, InternLM2's queries, keys and values are one matrix, and they come without a
processor. All of that is adapted in memory; nothing is written, and none of their Python code runs. Format:
https://github.com/OpenGVLab/InternVL (`internvl_chat/internvl/model`), InternVL 2.5: arXiv 2412.05271.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoTokenizer,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    InternVLVisionConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProcessorMixin,
)
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.internvl.video_processing_internvl import InternVLVideoProcessor
from transformers.utils.hub import cached_file, get_checkpoint_shard_files

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.inference.checkpoint_files import CheckpointRequest, explained
from atomthink_plugin.inference.internlm2_tokenizer import InternLM2Tokenizer

IMAGE: Final = "<IMG_CONTEXT>"
BEFORE_IMAGE: Final = "<img>"
AFTER_IMAGE: Final = "</img>"
END_OF_TURN: Final = "<|im_end|>"

SYSTEM: Final = (
    "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。"
)
"""The system line that the original code writes where none is given (conversation template `internvl2_5`)."""

CONVERSATION: Final = "internvl2_5"
"""The conversation template of InternVL 2.5, 3 and 3.5."""

TEMPLATE: Final = (
    "{%- if messages and messages[0]['role'] != 'system' -%}"
    "{{ '<|im_start|>system\n" + SYSTEM + "<|im_end|>\n' }}"
    "{%- endif -%}"
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{%- if message['content'] is string -%}{{ message['content'] }}"
    "{%- else -%}{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'image' -%}{{ '<IMG_CONTEXT>\n' }}{%- else -%}{{ part['text'] }}{%- endif -%}"
    "{%- endfor -%}{%- endif -%}"
    "{{ '<|im_end|>\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
)
"""The same conversation template in Jinja, with parts of a turn that are images."""

MEAN: Final = (0.485, 0.456, 0.406)
DEVIATION: Final = (0.229, 0.224, 0.225)
"""Of the channels of ImageNet; InternVL's images are normalised by them."""

_TOWER: Final = r"model.vision_tower.encoder.layer.\1."

NAMES: Final[Mapping[str, str]] = {
    r"^vision_model\.embeddings\.class_embedding$": "model.vision_tower.embeddings.cls_token",
    r"^vision_model\.embeddings\.position_embedding$": "model.vision_tower.embeddings.position_embeddings",
    r"^vision_model\.embeddings\.patch_embedding\.": "model.vision_tower.embeddings.patch_embeddings.projection.",
    r"^vision_model\.encoder\.layers\.(\d+)\.attn\.proj\.": _TOWER + "attention.projection_layer.",
    r"^vision_model\.encoder\.layers\.(\d+)\.attn\.": _TOWER + "attention.",
    r"^vision_model\.encoder\.layers\.(\d+)\.mlp\.": _TOWER + "mlp.",
    r"^vision_model\.encoder\.layers\.(\d+)\.norm1\.": _TOWER + "layernorm_before.",
    r"^vision_model\.encoder\.layers\.(\d+)\.norm2\.": _TOWER + "layernorm_after.",
    r"^vision_model\.encoder\.layers\.(\d+)\.ls([12])$": _TOWER + r"lambda_\2",
    r"^mlp1\.0\.": "model.multi_modal_projector.layer_norm.",
    r"^mlp1\.1\.": "model.multi_modal_projector.linear_1.",
    r"^mlp1\.3\.": "model.multi_modal_projector.linear_2.",
    r"^language_model\.model\.": "model.language_model.",
    r"^language_model\.(?:lm_head|output)\.": "lm_head.",
}
"""The original code's names of weights, as regular expressions, and transformers' names."""

INTERNLM2_NAMES: Final[Mapping[str, str]] = {
    r"\.tok_embeddings\.": ".embed_tokens.",
    r"\.attention\.wqkv\.": ".self_attn.wqkv.",
    r"\.attention\.wo\.": ".self_attn.o_proj.",
    r"\.feed_forward\.w1\.": ".mlp.gate_proj.",
    r"\.feed_forward\.w2\.": ".mlp.down_proj.",
    r"\.feed_forward\.w3\.": ".mlp.up_proj.",
    r"\.attention_norm\.": ".input_layernorm.",
    r"\.ffn_norm\.": ".post_attention_layernorm.",
}
"""InternLM2's names of weights and Llama's; its computation is Llama's."""

_TOKENS_OF_PROCESSOR: Final = {
    "start_image_token": BEFORE_IMAGE,
    "end_image_token": AFTER_IMAGE,
    "context_image_token": IMAGE,
    "video_token": AFTER_IMAGE,  # required, and not used: a token of its own would have no embedding
}
"""Attributes that transformers' processor reads from a tokenizer."""

_LANGUAGE_MODELS: Final = {"internlm2": "llama", "llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
"""Types of language models in such checkpoints and the type in transformers that computes the same."""

_OF_FILE: Final = frozenset({"architectures", "model_type", "transformers_version", "torch_dtype", "dtype"})
"""Keys of a language model's section of config.json that are not about its architecture."""


@dataclass(frozen=True, slots=True)
class _Heads:
    """How InternLM2's attention is divided.

    Attributes:
        pairs: Heads of keys and values.
        size: Numbers of one head.
    """

    pairs: int
    size: int


def in_internvl_format(config: Mapping[str, Any]) -> bool:
    """Returns whether a config.json is of InternVL's original code."""
    return config.get("model_type") == "internvl_chat"


def load_internvl_format(
    request: CheckpointRequest, config: Mapping[str, Any]
) -> tuple[PreTrainedModel, ProcessorMixin]:
    """Loads a checkpoint of InternVL's original code.

    Args:
        request: What the user named.
        config: Its config.json.

    Raises:
        AtomThinkError: It is of a kind of InternVL that this cannot be done for, or it cannot be loaded.
    """
    processor = internvl_processor(request, config)
    whole = internvl_config(processor, config)
    model = _model(request, config["llm_config"]["model_type"] == "internlm2", whole)
    model.generation_config.eos_token_id = processor.tokenizer.convert_tokens_to_ids(END_OF_TURN)
    return model, processor


def internvl_processor(request: CheckpointRequest, config: Mapping[str, Any]) -> ProcessorMixin:
    """Builds the processor of a checkpoint of InternVL's original code, which comes with a tokenizer only.

    Args:
        request: What the user named.
        config: Its config.json.

    Raises:
        AtomThinkError: It is of a kind of InternVL that this cannot be done for, or it has no tokenizer of InternVL.
    """
    _require_supported(request, config)
    side = _side(config)
    images = GotOcr2ImageProcessorPil(  # resizes with Pillow, as the original code does
        size={"height": side, "width": side},
        image_mean=list(MEAN),
        image_std=list(DEVIATION),
        crop_to_patches=bool(config.get("dynamic_image_size", True)),
        min_patches=config.get("min_dynamic_patch", 1),
        max_patches=config.get("max_dynamic_patch", 12),
    )
    return InternVLProcessor(
        images,
        _tokenizer(request, config["llm_config"]),
        InternVLVideoProcessor(),  # required, and not used
        image_seq_length=_tokens_of_tile(config),
        chat_template=TEMPLATE,
    )


def _require_supported(request: CheckpointRequest, config: Mapping[str, Any]) -> None:
    """Refuses variants that are computed or asked in another way than InternVL 2.5 and 3."""
    language_model = (config.get("llm_config") or {}).get("model_type")
    faults = {
        "llm_config.model_type": (language_model, language_model in _LANGUAGE_MODELS),
        "vision_config": (config.get("vision_config"), bool(config.get("vision_config"))),
        "template": (config.get("template"), config.get("template") == CONVERSATION),
        "ps_version": (config.get("ps_version"), config.get("ps_version") == "v2"),
        "pad2square": (config.get("pad2square"), not config.get("pad2square")),
        "use_thumbnail": (config.get("use_thumbnail"), bool(config.get("use_thumbnail", True))),
    }
    found = [f"{key}={value!r}" for key, (value, fits) in faults.items() if not fits]
    if found:
        raise AtomThinkError(
            f"{request.argument}={request.pretrained!r} is in the format of InternVL's original code, of which "
            f"InternVL 2.5 and 3 are supported, and its config.json has {', '.join(found)}: name the checkpoint that "
            "was converted for transformers (the names of these end in -hf on the model hub)"
        )


def internvl_config(processor: ProcessorMixin, config: Mapping[str, Any]) -> InternVLConfig:
    """Returns transformers' config of a checkpoint of InternVL's original code.

    Args:
        processor: Its processor.
        config: Its config.json.
    """
    text = _language_model(config["llm_config"])
    whole = InternVLConfig(
        text_config=text,
        vision_config=_vision_tower(config["vision_config"]),
        image_token_id=processor.tokenizer.convert_tokens_to_ids(IMAGE),
        image_seq_length=_tokens_of_tile(config),
        downsample_ratio=config.get("downsample_ratio", 0.5),
        vision_feature_layer=config.get("select_layer", -1),
        tie_word_embeddings=text.tie_word_embeddings,
        architectures=[InternVLForConditionalGeneration.__name__],
        dtype=config.get("torch_dtype") or config.get("dtype"),
    )
    whole._commit_hash = config.get("_commit_hash")
    return whole


def _side(config: Mapping[str, Any]) -> int:
    """Pixels of a tile's side."""
    return int(config.get("force_image_size") or config["vision_config"]["image_size"])


def _tokens_of_tile(config: Mapping[str, Any]) -> int:
    patches = _side(config) // int(config["vision_config"]["patch_size"])
    return int((patches * float(config.get("downsample_ratio", 0.5))) ** 2)


def _language_model(section: Mapping[str, Any]) -> PretrainedConfig:
    """Returns transformers' config of the language model; older names of the rotary embeddings are read as well."""
    config: PretrainedConfig = AutoConfig.for_model(_LANGUAGE_MODELS[section["model_type"]])
    known = (frozenset(config.to_dict()) | {"rope_theta", "rope_scaling"}) - _OF_FILE
    values = {key: value for key, value in section.items() if key in known}
    if section["model_type"] == "internlm2":
        values["attention_bias"] = bool(section.get("bias"))
    return type(config).from_dict(values)


def _vision_tower(section: Mapping[str, Any]) -> InternVLVisionConfig:
    same = (
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
        "hidden_act",
        "norm_type",
        "layer_norm_eps",
        "image_size",
        "patch_size",
        "num_channels",
    )
    return InternVLVisionConfig(
        **{key: section[key] for key in same if key in section},
        attention_bias=bool(section.get("qkv_bias", False)),
        use_qk_norm=bool(section.get("qk_normalization", True)),
    )


def _tokenizer(request: CheckpointRequest, section: Mapping[str, Any]) -> PreTrainedTokenizerBase:
    """Returns the tokenizer; InternLM2's own class is Python code of the checkpoint, and transformers has no other."""
    source: dict[str, Any] = {"revision": request.revision}
    with explained(request):
        if section["model_type"] == "internlm2":
            tokenizer: Any = InternLM2Tokenizer.from_pretrained(request.pretrained, **source)
        else:
            tokenizer = AutoTokenizer.from_pretrained(request.pretrained, config=_language_model(section), **source)
    known = tokenizer.get_vocab()
    rows = int(section["vocab_size"])
    if unknown := [
        token for token in (BEFORE_IMAGE, IMAGE, AFTER_IMAGE, END_OF_TURN) if known.get(token, rows) >= rows
    ]:
        raise AtomThinkError(
            f"{request.argument}={request.pretrained!r}: its tokenizer has no {', '.join(unknown)} among the "
            "model's tokens: copy the tokenizer's files from the base model's repository"
        )
    for name, token in _TOKENS_OF_PROCESSOR.items():
        setattr(tokenizer, name, token)
        setattr(tokenizer, f"{name}_id", known[token])
    loaded: PreTrainedTokenizerBase = tokenizer
    return loaded


def _model(request: CheckpointRequest, internlm2: bool, config: InternVLConfig) -> PreTrainedModel:
    text: Any = config.text_config
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    heads = _Heads(text.num_key_value_heads, size)
    with explained(request):
        weights: dict[str, torch.Tensor] = {}
        for file in _files(request):
            for name, value in load_file(file).items():
                weights |= _renamed(name, value, heads, internlm2)
        loader: Any = InternVLForConditionalGeneration  # its type does not tell of `output_loading_info`
        model, loading = loader.from_pretrained(
            None,
            config=config,
            state_dict=weights,
            dtype=request.dtype,
            attn_implementation=request.attention,
            output_loading_info=True,
        )
    for names, fault in ((loading["missing_keys"], "no weights for"), (loading["unexpected_keys"], "unknown weights")):
        if names:
            raise AtomThinkError(
                f"{request.argument}={request.pretrained!r} has {fault} {', '.join(sorted(names)[:3])}: the download "
                "is incomplete, or it is not a checkpoint of InternVL"
            )
    loaded: PreTrainedModel = model
    return loaded


def _files(request: CheckpointRequest) -> Iterator[str]:
    """Yields the files of weights; they are fetched if the checkpoint is on the hub."""
    optional = {"_raise_exceptions_for_missing_entries": False, "revision": request.revision}
    index = cached_file(request.pretrained, "model.safetensors.index.json", **optional)
    if index is not None:
        files, _ = get_checkpoint_shard_files(  # type: ignore[no-untyped-call]
            request.pretrained, index, revision=request.revision
        )
        yield from files
        return
    single = cached_file(request.pretrained, "model.safetensors", **optional)
    if single is None:
        raise AtomThinkError(
            f"{request.argument}={request.pretrained!r} has no model.safetensors and no model.safetensors.index.json: "
            "name a checkpoint whose weights are safetensors files"
        )
    yield single


def _renamed(name: str, value: torch.Tensor, heads: _Heads, internlm2: bool) -> dict[str, torch.Tensor]:
    """Returns a weight, or the parts of a fused one, under transformers' names; an unknown name stays."""
    for tables in (NAMES, INTERNLM2_NAMES) if internlm2 else (NAMES,):
        for pattern, replacement in tables.items():
            name = re.sub(pattern, replacement, name)
    if ".attention.qkv." in name:
        parts = value.chunk(3)
        fused = "qkv"
    elif ".self_attn.wqkv." in name:
        # For each head of keys and values: the heads of queries that share it, the keys, the values.
        groups = value.view(heads.pairs, -1, heads.size, *value.shape[1:])
        parts = tuple(part.flatten(0, 2) for part in (groups[:, :-2], groups[:, -2:-1], groups[:, -1:]))
        fused = "wqkv"
    else:
        return {name: value}
    names = (name.replace(f".{fused}.", f".{part}_proj.") for part in "qkv")
    return {name: part.contiguous() for name, part in zip(names, parts, strict=True)}
