"""Writes tiny checkpoints in the format of InternVL's original code, by hand, and the same models as transformers'."""

from __future__ import annotations

import io
import json
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import sentencepiece
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import (
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLVisionConfig,
    LlamaConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from tests import tiny_models

SIDE: Final = 56
"""Pixels of a tile's side; its 4 x 4 patches become 4 tokens."""

TOKENS: Final = 4

IMAGE_TOKENS: Final = ("<img>", "</img>", "<IMG_CONTEXT>")
TEXTS: Final = (
    "### Question:\nHow many?\n\n### Solution Process:\nStep 1: There are 2 + 3 - 1 = 4 balls, Yes or No.",
    "You are an assistant. Question: What is x? Process: First, x = 1. Then: the answer is 5.",
    *(word for word in ("Yes", "No", "+", "-") for _ in range(50)),
    *(f"Step {k}: Compute {k} + {k} - 1 = {2 * k}.\n\nThe answer is {k}." for k in range(30)),
)


@cache
def sentencepiece_model() -> bytes:
    """InternLM2's kind of model: BPE with bytes, no space before the first word, the turns' tokens as unused ones."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([line for text in TEXTS for line in text.split("\n") if line]),
        model_writer=model,
        model_type="bpe",
        vocab_size=420,
        byte_fallback=True,
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        allow_whitespace_only_pieces=True,
        split_digits=True,
        user_defined_symbols=["[UNUSED_TOKEN_145]", "[UNUSED_TOKEN_146]"],
        minloglevel=2,
    )
    return model.getvalue()


def write_internlm2_tokenizer(folder: Path, more: tuple[str, ...] = ()) -> int:
    """Writes the files of InternLM2's tokenizer, whose class is remote code; returns the number of tokens."""
    (folder / "tokenizer.model").write_bytes(sentencepiece_model())
    pieces = sentencepiece.SentencePieceProcessor(model_proto=sentencepiece_model())
    size = pieces.get_piece_size()
    special = {0: "<unk>", 1: "<s>", 2: "</s>"}
    special |= {pieces.piece_to_id("[UNUSED_TOKEN_145]"): "<|im_end|>"}
    special |= {pieces.piece_to_id("[UNUSED_TOKEN_146]"): "<|im_start|>"}
    special |= dict(enumerate((*IMAGE_TOKENS, *more), start=size))
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    written = {
        "added_tokens_decoder": {str(key): {"content": text, **flags} for key, text in special.items()},
        "additional_special_tokens": [text for key, text in special.items() if key > 2],
        "auto_map": {"AutoTokenizer": ["tokenization_internlm2.InternLM2Tokenizer", None]},
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "pad_token": "</s>",
        "chat_template": "{{ bos_token }}{% for message in messages %}{{ message['content'] }}{% endfor %}",
        "clean_up_tokenization_spaces": False,
        "model_max_length": 8192,
        "tokenizer_class": "InternLM2Tokenizer",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(written))
    return size + len(IMAGE_TOKENS) + len(more)


def write_qwen2_tokenizer(folder: Path, more: tuple[str, ...] = ()) -> int:
    """Writes vocab.json and merges.txt, with the special tokens after them; returns the number of tokens."""
    words = tiny_models.tokenizer([])
    core = json.loads(words.backend_tokenizer.to_str())["model"]
    (folder / "vocab.json").write_text(json.dumps(core["vocab"]))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in core["merges"]) + "\n")
    special = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *IMAGE_TOKENS, *more)
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    ids = range(len(core["vocab"]), len(core["vocab"]) + len(special))
    written = {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": {str(key): {"content": text, **flags} for key, text in zip(ids, special, strict=True)},
        "additional_special_tokens": list(special[1:]),
        "bos_token": None,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "unk_token": None,
        "errors": "replace",
        "model_max_length": 8192,
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(written))
    return len(core["vocab"]) + len(special)


def original(
    folder: Path, kind: str, *, more: tuple[str, ...] = (), **changes: Any
) -> InternVLForConditionalGeneration:
    """Writes a checkpoint in two shards as the original code does; returns the same model in transformers' form.

    Args:
        folder: Is made.
        kind: Its language model: `internlm2`, `internlm2_bias`, `llama`, `qwen2` or `qwen3`. That with Llama has the
            vision tower of the largest InternVLs, with other norms.
        more: Special tokens after those of images.
        changes: To config.json.
    """
    folder.mkdir(parents=True)
    write = write_internlm2_tokenizer if kind.startswith("internlm2") else write_qwen2_tokenizer
    size = write(folder, more)
    twin = _twin(kind, size, image_token_id=size - len(more) - 1)
    weights = _weights(twin, kind)
    names = sorted(weights)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, held in shards.items():
        save_file({name: weights[name].clone().contiguous() for name in held}, folder / file, {"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, held in shards.items() for name in held}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    written = {**_config(twin, kind), **changes}
    (folder / "config.json").write_text(json.dumps(written))
    return twin


def _twin(kind: str, size: int, image_token_id: int) -> InternVLForConditionalGeneration:
    torch.manual_seed(0)
    common: dict[str, Any] = {
        "vocab_size": size,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": False,
        "rope_parameters": {"rope_type": "dynamic", "rope_theta": 5000.0, "factor": 2.0},
    }
    texts: dict[str, PretrainedConfig] = {
        "internlm2": LlamaConfig(**common),
        "internlm2_bias": LlamaConfig(**common, attention_bias=True),
        "llama": LlamaConfig(**common),
        "qwen2": Qwen2Config(**common),
        "qwen3": Qwen3Config(**common, head_dim=16),
    }
    vision = InternVLVisionConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=SIDE,
        patch_size=14,
        attention_bias=kind != "llama",
        use_qk_norm=kind == "llama",
        norm_type="rms_norm" if kind == "llama" else "layer_norm",
    )
    twin = InternVLForConditionalGeneration(
        InternVLConfig(
            text_config=texts[kind],
            vision_config=vision,
            image_token_id=image_token_id,
            image_seq_length=TOKENS,
            tie_word_embeddings=False,
        )
    ).eval()
    for parameter in twin.parameters():  # every weight differs from its initial value, biases and norms included
        parameter.data += torch.randn_like(parameter) * 0.1
    return twin


def _weights(twin: InternVLForConditionalGeneration, kind: str) -> dict[str, Tensor]:
    """The weights as the original code names and fuses them, module by module."""
    tower, projector = twin.model.vision_tower, twin.model.multi_modal_projector
    weights = {
        "vision_model.embeddings.class_embedding": tower.embeddings.cls_token,
        "vision_model.embeddings.position_embedding": tower.embeddings.position_embeddings,
        "language_model.model.norm.weight": twin.model.language_model.norm.weight,
    }

    def linear(name: str, module: nn.Module) -> None:
        weights.update({f"{name}.{key}": value for key, value in module.state_dict().items()})

    linear("vision_model.embeddings.patch_embedding", tower.embeddings.patch_embeddings.projection)
    for at, layer in enumerate(tower.encoder.layer):
        name = f"vision_model.encoder.layers.{at}"
        attention = layer.attention
        for key in ("weight",) if kind == "llama" else ("weight", "bias"):
            fused = [getattr(part, key) for part in (attention.q_proj, attention.k_proj, attention.v_proj)]
            weights[f"{name}.attn.qkv.{key}"] = torch.cat(fused)
        linear(f"{name}.attn.proj", attention.projection_layer)
        linear(f"{name}.attn.q_norm", attention.q_norm)
        linear(f"{name}.attn.k_norm", attention.k_norm)
        linear(f"{name}.norm1", layer.layernorm_before)
        linear(f"{name}.norm2", layer.layernorm_after)
        linear(f"{name}.mlp.fc1", layer.mlp.fc1)
        linear(f"{name}.mlp.fc2", layer.mlp.fc2)
        weights |= {f"{name}.ls1": layer.lambda_1, f"{name}.ls2": layer.lambda_2}
    linear("mlp1.0", projector.layer_norm)
    linear("mlp1.1", projector.linear_1)
    linear("mlp1.3", projector.linear_2)
    embedding = twin.model.language_model.embed_tokens.weight
    if not kind.startswith("internlm2"):
        weights |= {f"language_model.model.{key}": v for key, v in twin.model.language_model.state_dict().items()}
        weights["language_model.lm_head.weight"] = twin.lm_head.weight
        return weights
    weights |= {
        "language_model.model.tok_embeddings.weight": embedding,
        "language_model.output.weight": twin.lm_head.weight,
    }
    for at, block in enumerate(twin.model.language_model.layers):
        name = f"language_model.model.layers.{at}"
        for key in ("weight", "bias") if kind == "internlm2_bias" else ("weight",):
            weights[f"{name}.attention.wqkv.{key}"] = _wqkv(block.self_attn, key)
        linear(f"{name}.attention.wo", block.self_attn.o_proj)
        linear(f"{name}.feed_forward.w1", block.mlp.gate_proj)
        linear(f"{name}.feed_forward.w2", block.mlp.down_proj)
        linear(f"{name}.feed_forward.w3", block.mlp.up_proj)
        linear(f"{name}.attention_norm", block.input_layernorm)
        linear(f"{name}.ffn_norm", block.post_attention_layernorm)
    return weights


def _wqkv(attention: Any, key: str) -> Tensor:
    """Rows of 2 groups of heads of 16 numbers: 2 heads of queries, 1 of keys, 1 of values each."""
    queries, keys, values = (getattr(getattr(attention, f"{part}_proj"), key) for part in "qkv")
    rows = []
    for group in range(2):
        rows += [queries[32 * group : 32 * group + 16], queries[32 * group + 16 : 32 * group + 32]]
        rows += [keys[16 * group : 16 * group + 16], values[16 * group : 16 * group + 16]]
    return torch.cat(rows)


def _config(twin: InternVLForConditionalGeneration, kind: str) -> dict[str, Any]:
    text, vision = twin.config.text_config, twin.config.vision_config
    same = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    llm = {
        **{key: getattr(text, key) for key in (*same, "num_key_value_heads", "max_position_embeddings")},
        "model_type": kind.removesuffix("_bias"),
        "hidden_act": "silu",
        "rms_norm_eps": text.rms_norm_eps,
        "rope_scaling": {"factor": 2.0, "type": "dynamic"},
        "rope_theta": 5000.0,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.37.2",
        "do_sample": False,
        "temperature": 1.0,
        "use_cache": False,
    }
    if kind == "qwen3":
        llm |= {"head_dim": 16}
    if kind.startswith("internlm2"):
        llm |= {
            "bias": kind == "internlm2_bias",
            "attn_implementation": "flash_attention_2",
            "bos_token_id": 1,
            "eos_token_id": 2,
        }
    return {
        "architectures": ["InternVLRewardModel" if kind != "llama" else "InternVLChatModel"],
        "auto_map": {"AutoModel": "modeling_internvl_chat.InternVLRewardModel"},
        "model_type": "internvl_chat",
        "downsample_ratio": 0.5,
        "dynamic_image_size": True,
        "force_image_size": SIDE,
        "llm_config": llm,
        "max_dynamic_patch": 12,
        "min_dynamic_patch": 1,
        "pad2square": False,
        "ps_version": "v2",
        "select_layer": -1,
        "template": "internvl2_5",
        "torch_dtype": "float32",
        "use_backbone_lora": 0,
        "use_thumbnail": True,
        "vision_config": {
            "architectures": ["InternVisionModel"],
            "model_type": "intern_vit_6b",
            "attention_dropout": 0.0,
            "drop_path_rate": 0.1,
            "hidden_act": "gelu",
            "hidden_size": vision.hidden_size,
            "image_size": SIDE,
            "initializer_factor": 0.1,
            "intermediate_size": vision.intermediate_size,
            "layer_norm_eps": 1e-06,
            "norm_type": vision.norm_type,
            "num_attention_heads": vision.num_attention_heads,
            "num_channels": 3,
            "num_hidden_layers": vision.num_hidden_layers,
            "patch_size": 14,
            "qk_normalization": vision.use_qk_norm,
            "qkv_bias": vision.attention_bias,
            "use_flash_attn": True,
        },
    }


def dynamic_preprocess(image: Image.Image, most: int) -> list[Image.Image]:
    """InternVL's cut of an image into tiles, from its description, with the thumbnail after them."""
    width, height = image.size
    ratio, area = width / height, width * height
    grids = {(columns, rows) for columns in range(1, most + 1) for rows in range(1, most + 1)}
    best, least = (1, 1), float("inf")
    for columns, rows in sorted(
        (grid for grid in grids if grid[0] * grid[1] <= most), key=lambda grid: grid[0] * grid[1]
    ):
        distance = abs(ratio - columns / rows)
        if distance < least:
            best, least = (columns, rows), distance
        elif distance == least and area > 0.5 * SIDE * SIDE * columns * rows:
            best = (columns, rows)
    columns, rows = best
    whole = image.resize((SIDE * columns, SIDE * rows))
    tiles = [
        whole.crop((SIDE * column, SIDE * row, SIDE * (column + 1), SIDE * (row + 1)))
        for row in range(rows)
        for column in range(columns)
    ]
    return tiles if len(tiles) == 1 else [*tiles, image.resize((SIDE, SIDE))]


def normalised(tile: Image.Image) -> Tensor:
    """A tile's pixels as the vision tower takes them."""
    pixels = torch.from_numpy(np.asarray(tile).copy()).permute(2, 0, 1).float() / 255
    mean, deviation = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return (pixels - mean) / deviation
