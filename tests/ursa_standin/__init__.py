"""A checkpoint with the interface of URSA-RM, with code beside the weights; random, and tiny.

Written from the authors' inference script: one token per image, from which the model makes several, a processor that
takes neither further arguments nor nested images and does not name that token, and one output per position.
"""

from __future__ import annotations

from pathlib import Path

import torch
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from tests.tiny_models import tokenizer
from tests.ursa_standin.configuration_ursa import UrsaConfig
from tests.ursa_standin.modeling_ursa import UrsaForTokenClassification
from tests.ursa_standin.processing_ursa import UrsaProcessor

UrsaConfig.register_for_auto_class()
UrsaForTokenClassification.register_for_auto_class("AutoModel")
UrsaProcessor.register_for_auto_class("AutoProcessor")


def ursa_rm(folder: Path) -> Path:
    """16 tokens per image."""
    torch.manual_seed(0)
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|image|>"]
    words = tokenizer(names, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    words.add_tokens([" и"])
    wide = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = UrsaConfig(
        text_config={
            "model_type": "qwen2",
            "vocab_size": len(words),
            "max_position_embeddings": 1024,
            "num_key_value_heads": 2,
            "bos_token_id": None,
            "eos_token_id": 2,
            **wide,
        },
        vision_config={"image_size": 56, "patch_size": 14, **wide},
        image_token_index=words.convert_tokens_to_ids("<|image|>"),
    )
    model = UrsaForTokenClassification(config)
    for parameter in model.parameters():
        parameter.data += torch.randn_like(parameter) * 0.1
    model.save_pretrained(folder)
    UrsaProcessor(CLIPImageProcessorPil(size={"height": 56, "width": 56}, do_center_crop=False), words).save_pretrained(
        folder
    )
    return folder
