"""Facts of the architectures up to `kosmos-2`, in the order of transformers' list."""

from __future__ import annotations

from typing import Any, Final

from benchmarks.family_models.facts import Facts, Part, Token
from benchmarks.family_models.words import small_tokenizer

_CHAMELEON: Final = ["<image>", *(f"IMGIMG{letter}Z" for letter in "ABCDEFGH")]
_EMU: Final = ["<image>", "<|extra_200|>", *(f"<|visual token {code:06d}|>" for code in range(8))]
_VQ: Final = {"base_channels": 32, "latent_channels": 32, "embed_dim": 16, "channel_multiplier": [1, 1, 1]}
"""Sizes of a vector-quantised image tokenizer; its groups need 32 channels."""


def _vq(**more: Any) -> dict[str, Any]:
    return {f"vq_config.{name}": value for name, value in {**_VQ, "num_res_blocks": 1, **more}.items()}


def _square(side: int) -> dict[str, dict[str, int]]:
    return {"size": {"height": side, "width": side}}


def _qformer(words: Any) -> dict[str, Any]:
    return {"qformer_tokenizer": small_tokenizer({})}


_MOE: Final = {"num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 32}
_GRANITE: Final = ("attention_multiplier", "embedding_multiplier", "logits_scaling", "residual_multiplier")
_QWEN3_VL: Final = {
    "processor": "Qwen3VLProcessor",
    "image": "Qwen2VLImageProcessor",
    "video": "Qwen3VLVideoProcessor",
}

FACTS: dict[str, Facts] = {
    "apertus1p5": Facts(
        tokens={f"code {kind} {code}": f"<|{kind} {code}|>" for kind in ("visual", "sound") for code in range(8)},
        config={
            "image_token_offset": Token("<|visual 0|>"),
            "audio_token_offset": Token("<|sound 0|>"),
            "vision_config.codebook_size": 8,
            "vision_config.base_channels": 32,
            "vision_config.latent_channels": 32,
            "vision_config.num_res_blocks": 1,
            "audio_config.codebook_size": 8,
            "audio_config.codebook_dim": 64,
            "audio_config.num_filters": 4,
            "audio_config.decoder_num_layers": 1,
        },
    ),
    "aria": Facts(
        config={
            "vision_config.patch_size": 98,
            "vision_config.image_size": 490,
            "projector_patch_to_query_dict": {"25": 4, "100": 8},
            "max_value_projector_patch_to_query_dict": 8,
        },
        image_processor={"max_image_size": 490},
        processor={"size_conversion": {490: 4, 980: 8}},
    ),
    "aya_vision": Facts(config={"image_token_index": Token("<|IMG_PATCH|>")}, processor={"img_size": 56}),
    "blip": Facts(placeholder=""),
    "blip-2": Facts(placeholder="", tokens={"image_token": None}, config={"image_token_index": Token("<image>")}),
    "chameleon": Facts(
        tokens={text: text for text in _CHAMELEON},
        config={
            **_vq(num_embeddings=8, resolution=16),
            "vocabulary_map": {text: Token(text) for text in _CHAMELEON},
            "image_token_id": Token("<image>"),
        },
        image_processor={"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}},
        processor={"image_seq_length": 16},
    ),
    "cohere2_vision": Facts(image_processor={"patch_size": 2}),
    "cohere_compass": Facts(
        config={
            "text_config.rope_parameters": {
                "full_attention": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 2, 2]}
            }
        }
    ),
    "cosmos3_omni": Facts(classes=_QWEN3_VL),
    "deepseek_ocr2": Facts(
        config={
            "text_config.mlp_layer_types": ["dense", "sparse"],
            "text_config.num_experts_per_tok": 2,
            # It has queries for 12 x 12 and 16 x 16 patches after two strides, and for no others.
            "vision_config.sam_config.downsample_channels": [64, 64],
            "vision_config.sam_config.image_size": 192,
            "vision_config.sam_config.patch_size": 4,
            "vision_config.sam_config.global_attn_indexes": [],
        },
        image_processor={**_square(192), "tile_size": 192},
        processor={"patch_size": 4},
    ),
    "deepseek_vl": Facts(processor={"num_image_tokens": 16}),
    "deepseek_vl_hybrid": Facts(
        image_processor={"high_res_size": {"height": 64, "width": 64}}, processor={"num_image_tokens": 16}
    ),
    "diffusion_gemma": Facts(
        config={
            **{f"text_config.{name}": value for name, value in _MOE.items()},
            "vision_config": Part("gemma4_vision"),
        },
        classes={
            "image": "Gemma4ImageProcessor",
            "video": "Gemma4VideoProcessor",
            "sound": "Gemma4AudioFeatureExtractor",
        },
        answers=(),  # it writes blocks of tokens at once
    ),
    "dots3_note": Facts(config={"text_config.head_dim": 32}, image_processor={"temporal_patch_size": 1}),
    "ernie4_5_vl_moe": Facts(
        config={"text_config.rope_parameters.mrope_section": [3, 3, 2]},
        video_processor={"draw_on_frames": False},
    ),
    "emu3": Facts(
        tokens={
            **{text: text for text in _EMU},
            "image_token": "<image>",
            "boi_token": "<|image start|>",
            "eoi_token": "<|image end|>",
            "image_wrapper_token": "<|image token|>",
            "eof_token": "<|extra_201|>",
        },
        config={
            **_vq(codebook_size=8, hidden_size=32, channel_multiplier=[1, 1, 1, 1], embed_dim=4, latent_channels=4),
            "vocabulary_map": {text: Token(text) for text in _EMU},
            "image_token_id": Token("<image>"),
        },
    ),
    "evolla": Facts(
        parts=lambda words: {"protein_tokenizer": small_tokenizer({})},
        answers=(),  # it reads proteins, not images
    ),
    "fast_vlm": Facts(
        classes={"processor": "LlavaProcessor", "image": "CLIPImageProcessor"},
        config={
            "vision_config.architecture": "fastvit_t8",
            "vision_config.model_args": {
                "inference_mode": True,
                "embed_dims": [16, 16, 32, 64],
                "layers": [1, 1, 1, 1],
            },
            "vision_config.hidden_size": 128,
        },
        image_processor={"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}},
        processor={"patch_size": 32},
    ),
    "florence2": Facts(
        placeholder="",
        config={
            "vision_config.embed_dim": [16, 16, 32, 32],
            "vision_config.depths": [1, 1, 1, 1],
            "vision_config.num_heads": [2, 2, 2, 2],
            "vision_config.num_groups": [2, 2, 2, 2],
        },
        image_processor={**_square(64), "crop_size": {"height": 64, "width": 64}, "image_seq_length": 5},
    ),
    "fuyu": Facts(
        config={"image_token_id": Token("|SPEAKER|"), "image_size": 120},
        image_processor=_square(120),
        placeholder="",
        # Its processor drops the mark that SentencePiece puts before a text.
        tokenizer={"prefix": "_", "ordinary": ("|SPEAKER|", "|NEWLINE|")},
    ),
    "gemma3n": Facts(
        config={
            "text_config.num_kv_shared_layers": 2,
            "text_config.num_hidden_layers": 4,
            "text_config.layer_types": ["sliding_attention", "full_attention"] * 2,
            "text_config.intermediate_size": [64] * 4,
            "text_config.activation_sparsity_pattern": [0.95, 0.0, 0.0, 0.0],
            # A stand-in for MobileNetV5, which timm does not make small: 4 tokens of an image of 64 x 64.
            "vision_config.architecture": "test_convnext",
            "vision_soft_tokens_per_image": 4,
        },
        image_processor=_square(64),
        processor={"image_seq_length": 4},
    ),
    "gemma4": Facts(
        config={"vision_config": Part("gemma4_vision")},
        image_processor={"max_soft_tokens": 70},
    ),
    "gemma4_unified": Facts(
        config={
            "vision_config": Part("gemma4_unified_vision"),
            "vision_config.mm_embed_dim": 64,
            "vision_config.output_proj_dims": 64,
        },
        image_processor={"max_soft_tokens": 70},
    ),
    "git": Facts(placeholder=""),
    "glm4v_moe": Facts(classes={"image": "Glm4vImageProcessor", "video": "Glm4vVideoProcessor"}),
    "glm_ocr": Facts(
        classes={"processor": "Glm46VProcessor", "image": "Glm46VImageProcessor", "video": "Glm46VVideoProcessor"}
    ),
    "glmga": Facts(
        classes={"processor": "Glm46VProcessor", "image": "Glm46VImageProcessor", "video": "Glm46VVideoProcessor"}
    ),
    "got_ocr2": Facts(
        # Its processor always writes 256 tokens: 64 patches along a side, 16 after two strides.
        config={
            "vision_config.image_size": 256,
            "vision_config.patch_size": 4,
            "vision_config.global_attn_indexes": [],
        },
        image_processor=_square(256),
    ),
    "granite4_vision": Facts(
        config={
            "downsample_rate": "1/2",
            "deepstack_layer_map": [[-1, 0]],
            "spatial_target_layers": [1, 1, 1, 1],
            "vision_config": Part("siglip_vision_model"),
            "vision_feature_select_strategy": "full",
            "image_grid_pinpoints": [[64, 128], [128, 64], [128, 128]],
            **{f"text_config.{name}": 1.0 for name in _GRANITE},  # in 5.16 its text config is Llama's
        },
        processor={"downsample_rate": "1/2"},
    ),
    "granite_docling": Facts(
        processor={"image_seq_len": 1},
    ),
    "hunyuan_vl": Facts(placeholder="<image_start><image><image_end>"),
    "idefics": Facts(placeholder="<image>"),
    "idefics3": Facts(
        image_processor={"size": {"longest_edge": 256}, "max_image_size": {"longest_edge": 128}},
        processor={"image_seq_len": 4},
    ),
    "inkling2": Facts(image_processor=_square(40)),
    "inkling2_loop": Facts(image_processor=_square(40)),
    "inkling_mm_model": Facts(image_processor=_square(40)),
    "instructblip": Facts(
        placeholder="",
        tokens={"image_token": None},
        config={"image_token_index": Token("<image>")},
        parts=_qformer,
    ),
    "instructblipvideo": Facts(
        placeholder="",
        tokens={"video_token": None},
        config={"video_token_index": Token("<video>")},
        video_processor=_square(56),
        parts=_qformer,
        answers=(),  # it reads videos of four frames
    ),
    "internvl": Facts(config={"image_token_id": Token("<context_image>")}, processor={"image_seq_length": 4}),
    "janus": Facts(
        config={**_vq(num_embeddings=8, num_patches=4)},
        processor={"num_image_tokens": 16},
    ),
    "kosmos-2": Facts(
        classes={"processor": "Kosmos2Processor", "image": "CLIPImageProcessor"},
        processor={"num_patch_index_tokens": 4},
    ),
}
