"""Facts of the architectures from `kosmos-2.5` on, in the order of transformers' list."""

from __future__ import annotations

from typing import Final

from benchmarks.family_models.facts import Config, Facts, Token

_OMNI_TOKENS: Final = {
    "image_token": "<|IMAGE|>",
    "audio_token": "<|AUDIO|>",
    "video_token": "<|VIDEO|>",
    "vision_bos_token": "<|vision_bos|>",
    "vision_eos_token": "<|vision_eos|>",
    "audio_bos_token": "<|audio_bos|>",
    "audio_eos_token": "<|audio_eos|>",
}
_OMNI_IDS: Final = {"vision_start_token_id": Token("<|vision_bos|>")}
_OMNI_PLACEHOLDER: Final = "<|vision_bos|><|IMAGE|><|vision_eos|>"

_QWEN_PLACEHOLDER: Final = "<|vision_start|><|image_pad|><|vision_end|>"


def _two_layers(config: Config) -> None:
    """Takes an image's features from the last two layers; the name of that setting depends on the release."""
    config |= {name: [-1, -2] for name in ("vision_feature_layer", "vision_feature_layers") if name in config}


FACTS: dict[str, Facts] = {
    "kosmos-2.5": Facts(
        classes={"processor": "Kosmos2_5Processor", "image": "Kosmos2_5ImageProcessor"},
        # The processor makes 4096 patches of every image, whatever its image processor says.
        config={
            "vision_config.patch_embed_hidden_size": 48,
            "vision_config.max_num_patches": 4096,
            "vision_config.hidden_size": 16,
            "vision_config.num_attention_heads": 1,
            "vision_config.num_hidden_layers": 1,
            "latent_query_num": 8,
        },
        tokens={"image_token": "<img>", "boi_token": "<image>", "eoi_token": "</image>"},
        placeholder="",
        image_processor={"patch_size": {"height": 4, "width": 4}},
        processor={"num_image_tokens": 8},
    ),
    "llama4": Facts(
        config={
            "text_config.no_rope_layers": [1, 0],
            "text_config.layer_types": ["chunked_attention", "full_attention"],
            "text_config.moe_layers": [0, 1],
            "vision_config.intermediate_size": 256,
            "image_token_index": Token("<|patch|>"),
        },
        image_processor={"max_patches": 4},
        # Its forward pass of transformers 5.24 reads an output that its language model does not have.
        answers=(),
    ),
    "llava_onevision": Facts(
        config={"image_grid_pinpoints": [[56, 112], [112, 56], [112, 112]]},
        processor={"num_image_tokens": 16, "vision_feature_select_strategy": "full"},
    ),
    "minimax_m3_vl": Facts(
        config={
            "merged_hidden_size": 256,
            # As in the released checkpoint; the default config has full attention alone.
            "text_config.layer_types": ["full_attention", "minimax_m3_sparse"],
        },
        tokens={
            "image_token": "]<]image[>[",
            "video_token": "]<]video[>[",
            "vision_start_token": "]<]start of image[>[",
            "vision_end_token": "]<]end of image[>[",
        },
        placeholder="]<]image[>[",
    ),
    "mistral4": Facts(
        classes={"processor": "PixtralProcessor", "image": "PixtralImageProcessor"},
        answers=("text",),
    ),
    "mistral_large4": Facts(config={"text_config.no_rope_layers": [1, 0], "text_config.kv_source_layers": [0, 1]}),
    "mllama": Facts(
        config={
            "text_config.cross_attention_layers": [1],
            # The features of two layers go beside those of the last one.
            "vision_config.vision_output_dim": 192,
        },
    ),
    "molmo2": Facts(
        config={
            "vision_config.image_size": [56, 56],
            "vision_config.num_position_embeddings": 16,
            "adapter_config.vision_feature_layer": [1, 0],
            "image_patch_id": Token("<im_patch>"),
        },
        image_processor={"size": {"height": 56, "width": 56}, "overlap_margins": [1, 1], "max_crops": 2},
    ),
    "muse_glimmer": Facts(config={"out_hidden_size": 256}),
    "muse_spark": Facts(
        config={
            "out_hidden_size": 256,
            "audio_config.out_hidden_size": 64,
            "audio_config.hidden_sizes": [16, 16],
            "audio_config.depths": [1, 1],
            "audio_config.patch_sizes": [16, 6],
            "audio_config.num_hidden_layers": 2,
        },
    ),
    "nemotron_h_omni": Facts(
        classes={"sound": "ParakeetFeatureExtractor"},
        config={
            "image_token_id": Token("<image>"),
            "text_config.layers_block_type": ["linear_attention", "moe", "full_attention", "mlp"],
            "text_config.mamba_num_heads": 4,
            "text_config.mamba_head_dim": 32,
            "text_config.n_groups": 2,
            "text_config.ssm_state_size": 8,
            "text_config.chunk_size": 16,
            "vision_config.patch_size": 4,
            "vision_config.image_size": 32,
            "vision_config.max_img_size": 64,
        },
        image_processor={"patch_size": 4, "min_num_patches": 16, "max_num_patches": 64, "max_model_len": 512},
    ),
    "ovis2": Facts(
        config={
            "image_token_id": Token("<IMG_ATOM>"),
            "visual_indicator_token_ids": [Token(f"<IMG_{name}>") for name in ("START", "GRID", "COL", "ROW", "END")],
        },
        tokens={f"<IMG_{name}>": f"<IMG_{name}>" for name in ("START", "ATOM", "GRID", "COL", "ROW", "END")},
        processor={"image_seq_length": 16},
    ),
    "paligemma": Facts(image_processor={"image_seq_length": 16}),
    "perception_lm": Facts(
        config={
            "projector_pooling_ratio": 2,
            "vision_config": {
                "model_type": "timm_wrapper",
                "architecture": "vit_pe_core_large_patch14_336",
                "do_pooling": True,
                "num_classes": 0,
                "model_args": {
                    "embed_dim": 64,
                    "img_size": [28, 28],
                    "depth": 2,
                    "num_heads": 4,
                    "patch_size": 7,
                    "global_pool": "",
                    "use_post_transformer_norm": False,
                    "init_values": 0.1,
                    "ref_feat_shape": (4, 4),
                },
            },
        },
        image_processor={"tile_size": 28, "max_num_tiles": 2},
        processor={"patch_size": 7, "pooling_ratio": 2},
    ),
    # It writes the actions of a robot, not text.
    "pi0": Facts(answers=()),
    "pix2struct": Facts(
        config={"vision_config.patch_embed_hidden_size": 48},
        image_processor={"patch_size": {"height": 4, "width": 4}, "is_vqa": False},
    ),
    # Its template writes as many tokens as an image has features.
    "pp_chart2table": Facts(
        config={"vision_config.image_size": 128},
        tokens={"image_token": "<imgpad>", "<img>": "<img>", "</img>": "</img>"},
        placeholder="<img>" + "<imgpad>" * 4 + "</img>",
    ),
    "qianfan_ocr": Facts(
        config={"image_token_id": Token("<IMG_CONTEXT>"), "vision_config.image_size": [56, 56]},
        tokens={"context_image_token": "<IMG_CONTEXT>", "start_image_token": "<img>", "end_image_token": "</img>"},
        placeholder="<image>",
        image_processor={"max_patches": 2},
        processor={"image_seq_length": 4},
    ),
    "qwen2_5_omni_thinker": Facts(
        classes={
            "processor": "Qwen2_5OmniProcessor",
            "image": "Qwen2VLImageProcessor",
            "video": "Qwen2VLVideoProcessor",
            "sound": "WhisperFeatureExtractor",
        },
        config=_OMNI_IDS,
        tokens=_OMNI_TOKENS,
        placeholder=_OMNI_PLACEHOLDER,
    ),
    "qwen3_omni_moe_thinker": Facts(
        classes={
            "processor": "Qwen3OmniMoeProcessor",
            "image": "Qwen2VLImageProcessor",
            "video": "Qwen2VLVideoProcessor",
            "sound": "WhisperFeatureExtractor",
        },
        config=_OMNI_IDS,
        tokens=_OMNI_TOKENS,
        placeholder=_OMNI_PLACEHOLDER,
    ),
    "qwen3_vl_moe": Facts(classes={"image": "Qwen2VLImageProcessor", "video": "Qwen3VLVideoProcessor"}),
    "qwen4_exp": Facts(
        classes={"image": "Qwen2VLImageProcessor"},
        config={
            "text_config.indexer_n_heads": 2,
            "text_config.indexer_kv_heads": 1,
            "text_config.indexer_head_dim": 16,
            "text_config.indexer_budget": 32,
            "text_config.indexer_compress_ratio": 4,
            "text_config.hc_lowrank": 8,
            "text_config.ngram_vocab_size_base": 100,
            "text_config.split_ngram_parts": 1,
        },
    ),
    "shieldgemma2": Facts(classes={"processor": "ShieldGemma2Processor", "image": "Gemma3ImageProcessor"}),
    "smolvlm": Facts(
        image_processor={"size": {"longest_edge": 128}, "max_image_size": {"longest_edge": 128}},
        processor={"image_seq_len": 4},
    ),
    "step3p7": Facts(
        config={
            "text_config.layer_types": ["sliding_attention", "full_attention"],
            "text_config.sliding_window": 512,
            "vision_config.patch_size": 7,
        },
        image_processor={"patch_size": 28, "vision_patch_size": 7},
    ),
    "t5gemma2": Facts(image_processor={"size": {"height": 64, "width": 64}}, processor={"image_seq_length": 4}),
    # It asks for the place of each word on the page.
    "udop": Facts(image_processor={"apply_ocr": False}, answers=()),
    "unlimited_ocr": Facts(
        config={
            "vision_config.sam_config.downsample_channels": [32, 64],
            "vision_config.sam_config.output_channels": 16,
            "vision_config.sam_config.image_size": 128,
            "vision_config.sam_config.window_size": 4,
        },
        image_processor={"size": {"height": 128, "width": 128}, "tile_size": 64, "max_patches": 4},
    ),
    "vipllava": Facts(finish=_two_layers, processor={"vision_feature_select_strategy": "default"}),
    "vision-encoder-decoder": Facts(
        default={"encoder": {"model_type": "vit"}, "decoder": {"model_type": "bert"}},
        classes={"processor": "TrOCRProcessor", "image": "ViTImageProcessor"},
        image_processor={"size": {"height": 64, "width": 64}},
    ),
}
