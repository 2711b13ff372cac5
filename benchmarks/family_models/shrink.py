"""Makes the default config of an architecture tiny: the same structure, small numbers."""

from __future__ import annotations

import re
from typing import Any, Final

from benchmarks.family_models.facts import Config

WIDTH: Final = 64
HEADS: Final = 4
HEAD: Final = WIDTH // HEADS
GRID: Final = 4
"""Patches along each side of an image."""

_SIZES: Final = (
    (r"head_dim|qk_nope_head_dim|qk_rope_head_dim|v_head_dim|d_kv|\w+_head_dim|linear_head_dim", HEAD),
    (r"qk_head_dim", 2 * HEAD),
    (r"\w*(num_key_value_heads|num_kv_heads)", HEADS // 2),
    (r"\w*num_(attention_)?heads|\w*attention_heads|n_heads?|\w*_n_heads|linear_num_\w+_heads|resampler_heads", HEADS),
    (
        r"\w*(hidden_size|intermediate_size|ffn_dim|mlp_dim|embed_dim|hidden_dim)(_mlp|_per_layer_input)?|adapter_\w+_(dim|size)",
        WIDTH,
    ),
    (r"d_model|d_ff|dim|width|\w*projection_dim|\w*proj_dim|\w*projector_\w+_dim|vision_output_dim", WIDTH),
    (r"\w*_lora_rank|laurel_rank|d_rel", HEAD),
    (r"\w*num_hidden_layers|num_\w*layers|depth|\w*encoder_layers|\w*decoder_layers|n_layers?|layers|\w*_depth", 2),
    (r"num_(local_)?experts|n_routed_experts|moe_num_experts", 4),
    (r"num_experts_per_tok|moe_topk|moe_k|top_k_experts", 2),
    (r"n_shared_experts|moe_num_shared_experts|n_group|topk_group|first_k_dense_replace", 1),
    (r"max_position_embeddings|max_2d_position_embeddings|position_embedding_size|seq_len", 2048),
    (r"sliding_window(_size)?|attention_chunk_size|rel_extent", 512),
    (r"index_topk", 64),
    (r"num_position_embeddings", 64),
    (r"num_query_tokens|resampler_num_latents", 8),
    (r"image_seq_length|num_image_tokens", GRID * GRID),
    (r"mm_tokens_per_image", 4),
)
"""Names of numbers, and what they are at most."""

_IGNORED: Final = ("transformers_version", "id2label", "label2id", "_name_or_path", "architectures", "dtype")
_LAYERS: Final = ("num_hidden_layers", "depth", "n_layer", "n_layers", "num_layers")
_GROUPS: Final = ("num_key_value_heads", "num_kv_heads")
_INDICES: Final = re.compile(r"\w*(indexes|indices|idxs|layer_ids|_layers|_layers_ids)")


def shrunk(default: Config) -> Config:
    """Returns a tiny config with the structure of a default one."""
    config = {name: value for name, value in default.items() if name not in _IGNORED}
    layers = _few_layers(config)
    grouped = _grouped(config)
    for name, value in config.items():
        if isinstance(value, dict):
            config[name] = shrunk(value)
        elif name in _GROUPS and not grouped and isinstance(value, int):
            config[name] = HEADS
        elif layers is None or name not in layers:
            config[name] = _small(name, value)
    for name, value in (layers or {}).items():
        config[name] = shrunk(value) if isinstance(value, dict) else value
    _fit_heads(config)
    _fit_image(config)
    return config


def _grouped(config: Config) -> bool:
    """Returns whether several heads share their keys and values."""
    heads = next((config[name] for name in ("num_attention_heads", "num_heads") if name in config), None)
    return any(config[name] != heads for name in _GROUPS if name in config)


def _small(name: Any, value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int) or not isinstance(name, str):
        return value
    return next((min(value, size) for names, size in _SIZES if re.fullmatch(names, name)), value)


def _few_layers(config: Config) -> Config | None:
    """Returns the entries that depend on the number of layers, for a few layers of every kind there is."""
    counter = next((name for name in _LAYERS if isinstance(config.get(name), int)), None)
    if counter is None:
        return None
    count = config[counter]
    lists = {
        name: value
        for name, value in config.items()
        if isinstance(value, list) and len(value) == count and not _INDICES.fullmatch(name)
    }
    kept: list[int] = []
    for layer in range(count):
        if any(value[layer] not in [value[at] for at in kept] for value in lists.values()):
            kept.append(layer)
    kept = sorted({*kept, *([layer for layer in range(count) if layer not in kept][: max(0, 2 - len(kept))])})
    few: Config = {counter: len(kept)}
    few |= {name: [value[layer] for layer in kept] for name, value in lists.items()}
    for name, value in config.items():
        if isinstance(value, list) and value and _INDICES.fullmatch(name) and all(type(one) is int for one in value):
            few[name] = sorted({max(one, 0) * len(kept) // max(count, one + 1) for one in value})
    if special := config.get("per_layer_config"):
        few["per_layer_config"] = {
            f"{at:02d}": shrunk(special[f"{layer:02d}"]) for at, layer in enumerate(kept) if f"{layer:02d}" in special
        }
    return few


def _fit_heads(config: Config) -> None:
    """Gives a part with partial rotary positions heads that are wide enough, and three-dimensional ones sections."""
    ropes = _ropes(config)
    factors = [rope["partial_rotary_factor"] for rope in ropes if rope.get("partial_rotary_factor")]
    if isinstance(factor := config.get("partial_rotary_factor"), (int, float)):
        factors.append(factor)
    factor = min(factors, default=1.0)
    if config.get("head_dim", HEAD) is None:
        config["head_dim"] = HEAD
    if factor < 1 and isinstance(config.get("head_dim"), int):
        config["head_dim"] = 2 * HEAD
    for rope in ropes:
        if "mrope_section" in rope:
            rope["mrope_section"] = sections(config)


def _ropes(config: Config) -> list[Config]:
    rope = config.get("rope_parameters")
    if not isinstance(rope, dict):
        return []
    return [rope, *(one for one in rope.values() if isinstance(one, dict))]


def sections(config: Config) -> list[int]:
    """Returns the sections of three-dimensional rotary positions that fill a head."""
    rope = config.get("rope_parameters") or {}
    factor = rope.get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1.0
    half = int((config.get("head_dim") or HEAD) * factor) // 2
    third = half // 3
    return [half - 2 * third, third, third]


def add_sections(config: Config) -> None:
    """Adds sections of three-dimensional rotary positions, whose default is in the model's code."""
    text = config.get("text_config") or config
    rope = {"rope_type": "default", "rope_theta": 1e4, **(text.get("rope_parameters") or {})}
    parts = [one for one in rope.values() if isinstance(one, dict)]
    for one in parts or [rope]:
        one.setdefault("mrope_section", sections(text))
    text["rope_parameters"] = {name: rope[name] for name in text["rope_parameters"]} if parts else rope


def _fit_image(config: Config) -> None:
    """Gives a vision part images of a few patches."""
    size, patch = config.get("image_size"), config.get("patch_size")
    if size is None or isinstance(size, dict):
        return
    side = GRID * patch if isinstance(patch, int) else WIDTH
    config["image_size"] = [side for _ in size] if isinstance(size, (list, tuple)) else min(size, side)
