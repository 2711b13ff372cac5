"""A checkpoint with the interface of EMOVA's `-hf` ones, with its code beside the weights; random, and tiny.

Written from the model card, the config.json and the authors' scripts alone: AutoModel and AutoProcessor with remote
code, a processor that is called with turns, `image_token_index` and `default_system_prompt` in the config.
"""

from __future__ import annotations

from pathlib import Path

import torch
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from tests.emova_standin.configuration_emova import EMOVAConfig
from tests.emova_standin.modeling_emova import EMOVAForConditionalGeneration
from tests.emova_standin.processing_emova import EMOVAProcessor
from tests.tiny_models import tokenizer

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image>\n{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

EMOVAConfig.register_for_auto_class()
EMOVAForConditionalGeneration.register_for_auto_class("AutoModel")
EMOVAProcessor.register_for_auto_class("AutoProcessor")


def emova(folder: Path) -> Path:
    """Image tokens as many as the image needs, from the processor."""
    return _build(folder, merge_inside=False)


def emova_merging(folder: Path) -> Path:
    """One image token, from which the model makes several, as the first LLaVAs did; it knows no padding."""
    return _build(folder, merge_inside=True)


def _build(folder: Path, merge_inside: bool) -> Path:
    torch.manual_seed(0)
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    words = tokenizer(names, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    words.add_tokens(["<image>"])  # not a special one
    wide = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = EMOVAConfig(
        text_config={
            "model_type": "qwen2",
            "vocab_size": len(words),
            "max_position_embeddings": 1024,
            "num_key_value_heads": 2,
            "bos_token_id": 0,
            "eos_token_id": 2,
            **wide,
        },
        vision_config={"image_size": 56, "patch_size": 14, **wide},
        image_token_index=words.convert_tokens_to_ids("<image>"),
        merge_inside=merge_inside,
    )
    model = EMOVAForConditionalGeneration(config)
    for parameter in model.parameters():
        parameter.data.mul_(4 if parameter.dim() == 2 else 1)
    images = CLIPImageProcessorPil(size={"height": 56, "width": 56}, do_center_crop=False)
    processor = EMOVAProcessor(images, words, merge_inside=merge_inside, chat_template=TEMPLATE)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
