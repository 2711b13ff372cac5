"""Builds a tiny random model of an architecture, with its processor, and saves it as a checkpoint."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import torch
import transformers
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast, ProcessorMixin
from transformers.models.auto import (
    feature_extraction_auto,
    image_processing_auto,
    modeling_auto,
    processing_auto,
    video_processing_auto,
)

from benchmarks.family_models.facts import Config, Facts, Part, Token, put
from benchmarks.family_models.processors import make_processor
from benchmarks.family_models.shrink import add_sections, shrunk
from benchmarks.family_models.words import small_tokenizer, special_tokens

MOST: Final = 30_000_000
"""Parameters of a tiny model at most: more means that a size was not shrunk."""

_SPREAD: Final = 0.08
"""Standard deviation of the weights. Those of the default configs give nearly uniform predictions, or none at all."""

TEMPLATE: Final = (
    "{% for m in messages %}{{ m['role'] }}: "
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<<image>>\n{% elif c['type'] == 'text' %}{{ c['text'] }}{% endif %}"
    "{% endfor %}{% endif %}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)


_PARTS: Final = {
    "image": image_processing_auto.IMAGE_PROCESSOR_MAPPING_NAMES,
    "video": video_processing_auto.VIDEO_PROCESSOR_MAPPING_NAMES,
    "sound": feature_extraction_auto.FEATURE_EXTRACTOR_MAPPING_NAMES,
}


class NotBuiltError(Exception):
    """There is no tiny model of an architecture; the text says why."""


def architectures() -> dict[str, str]:
    """Returns the types that transformers lists for image-text-to-text, with the names of their classes."""
    return dict(modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES)


def build(kind: str, facts: Facts, folder: Path) -> None:
    """Saves a tiny random model of a type, and its processor.

    Args:
        kind: The type, as `architectures` names it.
        facts: What is special about it.
        folder: Where to save it.

    Raises:
        NotBuiltError: There cannot be one here.
    """
    if facts.unbuilt:
        raise NotBuiltError(facts.unbuilt)
    torch.manual_seed(0)
    processor_class = _class(facts.classes.get("processor") or processing_auto.PROCESSOR_MAPPING_NAMES.get(kind))
    named = {**special_tokens(processor_class), **facts.tokens}
    tokens = {name: text for name, text in named.items() if text is not None}
    default = AutoConfig.for_model(kind, **facts.default)
    config = tiny_config(default, kind, facts, tokens)
    # The config names tokens that the processor does not, so that it extends `tokens`.
    words = small_tokenizer(tokens, **facts.tokenizer)
    processor = make_processor(
        processor_class, facts, config, words, **{part: _part(kind, facts, part) for part in _PARTS}
    )
    _fill(config, words)
    model = _random_model(type(default)(**config), kind)
    placeholder = _placeholder(processor, tokens) if facts.placeholder is None else facts.placeholder
    # Processors of some types keep no template, and the loaders of others look for the tokenizer's.
    processor.chat_template = words.chat_template = (facts.template or TEMPLATE).replace("<<image>>", placeholder)
    if model.can_generate():
        model.generation_config.eos_token_id = words.eos_token_id
        model.generation_config.pad_token_id = words.pad_token_id
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def tiny_config(default: PretrainedConfig, kind: str, facts: Facts, tokens: dict[str, str]) -> Config:
    """Returns the tiny config of a type, in which token ids are `Token` still."""
    config = shrunk(default.to_dict())
    if any("mrope_section" in inspect.getsource(module) for module in _model_modules(default, kind)):
        add_sections(config)
    _name_tokens(config, tokens)
    for name, value in facts.config.items():
        if isinstance(value, Part):
            value = shrunk(AutoConfig.for_model(str(value)).to_dict())
        put(config, name, value)
    if facts.finish is not None:
        facts.finish(config)
    return config


_TOKEN_ID: Final = ("_token_id", "_token_index")
_USUAL: Final = {
    "pad": "<pad>", "bos": "<s>", "eos": "</s>", "unk": "<unk>", "sep": "<sep>", "mask": "<mask>", "cls": "<cls>",
    "decoder_start": "<s>", "forced_eos": "</s>", "forced_bos": "<s>",
}  # fmt: skip


_VOCABULARIES: Final = ("vocab_size", "vocab_size_per_layer_input", "unpadded_vocab_size")


def _name_tokens(config: Config, tokens: dict[str, str]) -> None:
    """Names the tokens of a config's ids; adds those that the processor did not name to `tokens`."""
    for name, value in config.items():
        if isinstance(value, dict):
            _name_tokens(value, tokens)
            continue
        stem = next((str(name).removesuffix(end) for end in _TOKEN_ID if str(name).endswith(end)), None)
        if stem is None:
            continue
        if stem in _USUAL:
            config[name] = Token(_USUAL[stem])
        elif isinstance(value, int) or f"{stem}_token" in tokens:
            config[name] = Token(tokens.setdefault(f"{stem}_token", f"<{stem}>"))


def _fill(config: Any, words: PreTrainedTokenizerFast) -> None:
    """Puts ids for tokens, and the size of the vocabulary."""
    for name, value in config.items() if isinstance(config, dict) else enumerate(config):
        if isinstance(value, Token):
            config[name] = words.convert_tokens_to_ids(str(value))
        elif isinstance(value, (dict, list)):
            _fill(value, words)
        elif name in _VOCABULARIES and value is not None:
            config[name] = len(words)


def _random_model(settings: PretrainedConfig, kind: str) -> PreTrainedModel:
    cls = _class(architectures()[kind])
    with torch.device("meta"):
        empty = cls(settings)
    if (size := sum(one.numel() for one in empty.parameters())) > MOST:
        raise NotBuiltError(f"{size:,} parameters, the largest: {_largest(empty.named_parameters())}")
    model: PreTrainedModel = cls(settings)
    for parameter in model.parameters():
        if not parameter.is_floating_point():
            continue
        if parameter.dim() >= 4:  # convolutions, some of few inputs
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
        elif parameter.dim() >= 2:
            torch.nn.init.normal_(parameter, std=_SPREAD)
        elif not parameter.any():  # biases, and gates that would hide the image
            torch.nn.init.constant_(parameter, 0.5) if parameter.numel() == 1 else None
    return model.eval()


def _largest(parameters: Iterable[tuple[str, torch.Tensor]]) -> str:
    first = sorted(parameters, key=lambda one: -one[1].numel())[:6]
    return ", ".join(f"{name} {tuple(value.shape)}" for name, value in first)


def _placeholder(processor: ProcessorMixin, tokens: dict[str, str]) -> str:
    token = getattr(processor, "image_token", None) or tokens.get("image_token") or ""
    text = getattr(token, "content", token)
    begin, end = (tokens.get(f"vision_{side}_token", "") for side in ("start", "end"))
    return f"{begin}{text}{end}"


def _class(name: str | None) -> Any:
    if name is None:
        raise NotBuiltError("transformers has no processor for it")
    return getattr(transformers, name)


def _model_modules(config: PretrainedConfig, kind: str) -> list[Any]:
    """Returns the modules of a type's model and of its language model."""
    text = type(config.get_text_config()).__module__.replace(".configuration_", ".modeling_")
    return [sys.modules[_class(architectures()[kind]).__module__], importlib.import_module(text)]


def _part(kind: str, facts: Facts, part: str) -> Any:
    """Returns the class of a part of a type's processor, None if it has no such part."""
    known = facts.classes.get(part) or _PARTS[part].get(kind)
    if isinstance(known, dict):
        known = known.get("torchvision") or known.get("pil")
    return None if known is None else _class(known)
