"""Random models of rarer architectures, each with a trait that LLaVA and Qwen-VL do not have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import Kimi_K25ForConditionalGeneration, PreTrainedTokenizerFast
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.idefics2.image_processing_pil_idefics2 import Idefics2ImageProcessorPil
from transformers.models.kimi_k25.image_processing_kimi_k25 import Kimi_K25ImageProcessor
from transformers.models.kimi_k25.video_processing_kimi_k25 import Kimi_K25VideoProcessor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

from tests.tiny_models import LLAVA_TEMPLATE, llava, save, tokenizer

_LAYERS = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
_TEXT: dict[str, Any] = {
    **_LAYERS,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
_PIXELS = {"min_pixels": 28 * 28, "max_pixels": 28 * 28 * 16}


def _words(*media: str, **names: str) -> PreTrainedTokenizerFast:
    """A tokenizer whose `media` have the ids from 3 on; `names` are attributes of it."""
    torch.manual_seed(0)
    given: Any = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    return tokenizer(["<s>", "</s>", "<pad>", *media], **given, **({"extra_special_tokens": names} if names else {}))


def _template(image: str) -> str:
    return LLAVA_TEMPLATE.replace("<image>\n", image)


def kimi_k25(folder: Path) -> Path:
    """Kimi K2.5: its keys are wider than its values."""
    words = _words("<|media_pad|>", "<|kimi_k25_video_placeholder|>", "<begin>", "<end>")
    text = {
        "model_type": "deepseek_v3",
        "vocab_size": len(words),
        **_TEXT,
        "num_key_value_heads": 4,
        "moe_intermediate_size": 32,
        "n_shared_experts": 1,
        "n_routed_experts": 4,
        "n_group": 2,
        "topk_group": 1,
        "num_experts_per_tok": 2,
        "kv_lora_rank": 16,
        "q_lora_rank": 32,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 16,
        "v_head_dim": 12,
        "first_k_dense_replace": 1,
    }
    config = transformers.Kimi_K25Config(
        text_config=text,
        vision_config={**_LAYERS, "pos_emb_height": 8, "pos_emb_width": 8},
        projection_hidden_size=64,
        image_token_id=3,
        video_token_id=4,
        vision_start_token_id=5,
        vision_end_token_id=6,
    )
    processor = transformers.Kimi_K25Processor(
        Kimi_K25ImageProcessor(), words, Kimi_K25VideoProcessor(), chat_template=_template("<begin><|media_pad|><end>")
    )
    return save(folder, Kimi_K25ForConditionalGeneration(config), processor, 1)


def exaone4_5(folder: Path) -> Path:
    """EXAONE 4.5: built on Qwen2.5-VL, but its text has one axis of positions."""
    words = _words("<|image_pad|>", "<|video_pad|>")
    text = {
        "model_type": "exaone4",
        "vocab_size": len(words),
        "head_dim": 16,
        "sliding_window": 512,
        "sliding_window_pattern": 2,
        **_TEXT,
    }
    tower = {"hidden_size": 64, "intermediate_size": 128, "depth": 2, "num_heads": 4, "out_hidden_size": 64}
    config = transformers.Exaone4_5_Config(
        text_config=text,
        vision_config={**tower, "num_key_value_heads": 2, "fullatt_block_indexes": [1]},
        image_token_id=3,
        video_token_id=4,
    )
    images, videos = Qwen2VLImageProcessorPil(**_PIXELS), Qwen2VLVideoProcessor(**_PIXELS)
    processor = transformers.Exaone4_5_Processor(images, words, videos, chat_template=_template("<|image_pad|>"))
    return save(folder, transformers.Exaone4_5_ForConditionalGeneration(config), processor, 1)


def qwen_omni(folder: Path) -> Path:
    """The thinker of Qwen2.5-Omni: it counts positions itself, up to the token that ends an image."""
    names = {"image_token": "<|IMAGE|>", "audio_token": "<|AUDIO|>", "video_token": "<|VIDEO|>"}
    ends = {f"{kind}_{end}_token": f"<|{kind}_{end}|>" for kind in ("vision", "audio") for end in ("bos", "eos")}
    words = _words(*names.values(), *ends.values(), **names, **ends)
    kinds = ("image", "audio", "video", "vision_start", "vision_end", "audio_start", "audio_end")
    ids = {f"{kind}_token_id": at for at, kind in enumerate(kinds, start=3)}
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}
    tower = {"hidden_size": 64, "intermediate_size": 128, "depth": 2, "num_heads": 4, "out_hidden_size": 64}
    sound = {"d_model": 64, "encoder_layers": 1, "encoder_attention_heads": 4, "encoder_ffn_dim": 64, "output_dim": 64}
    config = transformers.Qwen2_5OmniThinkerConfig(
        text_config={"vocab_size": len(words), "rope_parameters": rope, **_TEXT},
        vision_config={**tower, "fullatt_block_indexes": [1]},
        audio_config={**sound, "num_mel_bins": 16},
        **ids,
    )
    processor = transformers.Qwen2_5OmniProcessor(
        Qwen2VLImageProcessorPil(**_PIXELS),
        Qwen2VLVideoProcessor(**_PIXELS),
        transformers.WhisperFeatureExtractor(feature_size=16),
        words,
        chat_template=_template("<|vision_bos|><|IMAGE|><|vision_eos|>"),
    )
    return save(folder, transformers.Qwen2_5OmniThinkerForConditionalGeneration(config), processor, 1)


def qianfan_ocr(folder: Path) -> Path:
    """Qianfan-OCR: chats have another placeholder than the model."""
    names = {"context_image_token": "<context>", "start_image_token": "<img>", "end_image_token": "</img>"}
    words = _words(*names.values(), **names)
    config = transformers.QianfanOCRConfig(
        text_config={"model_type": "qwen3", "vocab_size": len(words), "head_dim": 16, **_TEXT},
        vision_config={**_LAYERS, "image_size": (28, 28), "patch_size": (7, 7)},
        image_token_id=3,
        image_seq_length=4,
    )
    images = GotOcr2ImageProcessorPil(size={"height": 28, "width": 28}, crop_to_patches=False)
    processor = transformers.QianfanOCRProcessor(
        images, words, image_seq_length=4, chat_template=_template("<image>\n")
    )
    return save(folder, transformers.QianfanOCRForConditionalGeneration(config), processor, 1)


def idefics2(folder: Path) -> Path:
    """Idefics 2: its processor writes a space after an image where a word follows at once, all its layers slide."""
    words = _words("<image>", "<fake_token_around_image>", "<end_of_utterance>")
    config = transformers.Idefics2Config(
        text_config={"model_type": "mistral", "vocab_size": len(words), "sliding_window": 32, **_TEXT},
        vision_config={**_LAYERS, "image_size": 28, "patch_size": 7},
        perceiver_config={
            "hidden_size": 64,
            "resampler_n_latents": 4,
            "resampler_depth": 1,
            "resampler_n_heads": 4,
            "resampler_head_dim": 16,
            "num_key_value_heads": 2,
        },
        image_token_id=3,
    )
    images = Idefics2ImageProcessorPil(size={"shortest_edge": 20, "longest_edge": 28}, do_image_splitting=False)
    processor = transformers.Idefics2Processor(images, words, image_seq_len=4, chat_template=_template("<image>"))
    return save(folder, transformers.Idefics2ForConditionalGeneration(config), processor, 1)


def long_llava(folder: Path) -> Path:
    """LLaVA with LongRoPE: with more than 200 tokens all rows of a pass have other rotary frequencies."""
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "factor": 2.56, "original_max_position_embeddings": 200}
    factors = {"short_factor": [1.0] * 8, "long_factor": [1.0 + 3 * at for at in range(8)]}
    return llava(folder, {**_LAYERS, "rope_parameters": {**rope, **factors}})


def pi0(folder: Path) -> Path:
    """PI 0: it gives a robot's actions, no text."""
    words = _words("<image>", image_token="<image>")
    text = {"model_type": "gemma", "head_dim": 16, "vocab_size": len(words), **_TEXT}
    tower = {"model_type": "siglip_vision_model", "image_size": 28, "patch_size": 7, "vision_use_head": False}
    config = transformers.PI0Config(
        vlm_config={
            "model_type": "paligemma",
            "text_config": text,
            "vision_config": {**tower, **_LAYERS},
            "projection_dim": 64,
            "image_token_index": 3,
        },
        dit_config=text,
        chunk_size=4,
    )
    transformers.PI0ForConditionalGeneration(config).save_pretrained(folder)
    images = transformers.PI0ImageProcessor(size={"height": 28, "width": 28})
    transformers.PI0Processor(images, words).save_pretrained(folder)
    return folder
