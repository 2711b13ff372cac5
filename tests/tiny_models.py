"""Random models of a few hundred thousand parameters, built offline in seconds, for tests of real code paths."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPVisionConfig,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3Processor,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextProcessor,
    LlavaProcessor,
    MllamaConfig,
    MllamaForConditionalGeneration,
    MllamaProcessor,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2ForTokenClassification,
    SiglipVisionConfig,
    T5Gemma2Config,
    T5Gemma2ForConditionalGeneration,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.mllama.image_processing_pil_mllama import MllamaImageProcessorPil
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from atomthink_plugin.api import Message, Question, Step
from atomthink_plugin.api import Path as Chain
from atomthink_plugin.inference.checkpoints import Checkpoint, load_multimodal

LLAVA_TEMPLATE = (
    "{% for m in messages %}{{ m['role'] | upper }}: "
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}<image>\n{% endif %}{% endfor %}"
    "{% for c in m['content'] %}{% if c['type'] == 'text' %}{{ c['text'] }}{% endif %}{% endfor %} "
    "{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)

QWEN_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

GEMMA_TEMPLATE = LLAVA_TEMPLATE.replace("<image>\n", "<boi>")

MLLAMA_TEMPLATE = (
    "<|begin_of_text|>{% for m in messages %}{{ m['role'] }}: {% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<|image|>{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)

_ROOT = TemporaryDirectory(prefix="atomthink-tiny-")

_TEXT = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
_CONTEXT = 512


@cache
def folder(build: Callable[[Path], Path]) -> Path:
    """Where the model that `build` makes is saved; made once."""
    return build(Path(_ROOT.name) / build.__name__)


@cache
def loaded(build: Callable[[Path], Path]) -> Checkpoint:
    """The multimodal model that `build` makes, loaded once."""
    return load_multimodal(str(folder(build)), device="cpu")


def question(text: str = "How many?", *images: Image.Image, name: str = "q") -> Question:
    """A question of one user turn."""
    return Question(name, (Message("user", (*images, text)),))


def chain(asked: Question, *steps: str, answer: str | None = None) -> Chain:
    """A path of these steps; `answer` is the last one's."""
    path = Chain(asked)
    for at, step in enumerate(steps, start=1):
        path = path.extend(Step(step), answer if at == len(steps) else None)
    return path


def tokenizer(specials: list[str], **names: str) -> PreTrainedTokenizerFast:
    """Byte-level BPE trained on this file; `specials` get the first ids."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    steps = "".join(f"Step {k}: Compute {k} + {k} - 1 = {2 * k}.\n\nx \n\n\n\n\n" for k in range(30))
    core.train_from_iterator([LLAVA_TEMPLATE, QWEN_TEMPLATE, steps], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, padding_side="left", **names)


def picture(seed: int = 0, size: tuple[int, int] = (56, 56)) -> Image.Image:
    """A noisy image."""
    pixels = torch.randint(0, 255, (size[1], size[0], 3), generator=torch.Generator().manual_seed(seed))
    return Image.fromarray(pixels.to(torch.uint8).numpy())


def save(folder: Path, model: Any, processor: Any, end: int) -> Path:
    """Saves a random model that prefers some tokens, with habits of generation that a policy must not take over."""
    # Random weights of standard size give nearly uniform logits; larger ones give distinct preferences.
    for parameter in model.parameters():
        if parameter.dim() == 2:
            parameter.data.mul_(4)
    model.generation_config.eos_token_id = [end]
    model.generation_config.do_sample = True
    model.generation_config.temperature = 0.7
    model.generation_config.repetition_penalty = 1.3
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def clip_vision() -> CLIPVisionConfig:
    """A tiny CLIP tower's config: 56 x 56 pixels, 16 patches."""
    return CLIPVisionConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=56,
        patch_size=14,
        projection_dim=64,
    )


def _llava_tokenizer() -> PreTrainedTokenizerFast:
    names = ["<s>", "</s>", "<pad>", "<image>", "<+>", "<->"]
    return tokenizer(names, bos_token="<s>", eos_token="</s>", pad_token="<pad>")


def llava(folder: Path, sizes: dict[str, int] = _TEXT, **config: Any) -> Path:
    """LLaVA: 16 image tokens per image; `config` goes into config.json."""
    torch.manual_seed(0)
    words = _llava_tokenizer()
    text = LlamaConfig(vocab_size=len(words), max_position_embeddings=_CONTEXT, **sizes)
    model = LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=clip_vision(), text_config=text, image_token_index=3, vision_feature_layer=-1, **config
        )
    )
    images = CLIPImageProcessorPil(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56})
    processor = LlavaProcessor(
        images,
        words,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=LLAVA_TEMPLATE,
    )
    return save(folder, model, processor, 1)


def llava_next(folder: Path) -> Path:
    """LLaVA-NeXT: the number of image tokens and tiles depends on the image's shape."""
    torch.manual_seed(0)
    words = _llava_tokenizer()
    text = LlamaConfig(vocab_size=len(words), max_position_embeddings=_CONTEXT, **_TEXT)
    grid = [[56, 112], [112, 56], [112, 112]]
    config = LlavaNextConfig(
        vision_config=clip_vision(),
        text_config=text,
        image_token_index=3,
        vision_feature_layer=-1,
        image_grid_pinpoints=grid,
    )
    images = LlavaNextImageProcessorPil(
        size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}, image_grid_pinpoints=grid
    )
    processor = LlavaNextProcessor(
        images,
        words,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=LLAVA_TEMPLATE,
    )
    return save(folder, LlavaNextForConditionalGeneration(config), processor, 1)


def qwen(folder: Path, sizes: dict[str, Any] = _TEXT) -> Path:
    """Qwen2.5-VL: patches of all images end to end, three-dimensional positions."""
    torch.manual_seed(0)
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
    words = tokenizer([*names, "<|image_pad|>", "<|video_pad|>"], eos_token="<|im_end|>", pad_token="<|endoftext|>")
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(words),
            "max_position_embeddings": _CONTEXT,
            "num_key_value_heads": 2,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]},
            "bos_token_id": 0,
            "eos_token_id": 2,
            **sizes,
        },
        vision_config={
            "hidden_size": 64,
            "intermediate_size": 128,
            "depth": 2,
            "num_heads": 4,
            "out_hidden_size": sizes["hidden_size"],
            "fullatt_block_indexes": [1],
        },
        image_token_id=5,
        video_token_id=6,
        vision_start_token_id=3,
        vision_end_token_id=4,
    )
    pixels = {"min_pixels": 28 * 28, "max_pixels": 28 * 28 * 16}
    processor = Qwen2_5_VLProcessor(
        Qwen2VLImageProcessorPil(**pixels), words, Qwen2VLVideoProcessor(**pixels), chat_template=QWEN_TEMPLATE
    )
    return save(folder, Qwen2_5_VLForConditionalGeneration(config), processor, 2)


def mllama(folder: Path) -> Path:
    """Llama 3.2 Vision: cross-attention to tiles, no image tokens in the text."""
    torch.manual_seed(0)
    names = ["<|begin_of_text|>", "<|eot_id|>", "<|pad|>", "<|image|>", "<|python_tag|>"]
    words = tokenizer(names, bos_token="<|begin_of_text|>", eos_token="<|eot_id|>", pad_token="<|pad|>")
    config = MllamaConfig(
        text_config=dict(
            vocab_size=len(words) - 1,
            max_position_embeddings=_CONTEXT,
            num_key_value_heads=2,
            cross_attention_layers=[1],
            rope_parameters={"rope_type": "default", "rope_theta": 1e4},
            pad_token_id=2,
            bos_token_id=0,
            eos_token_id=1,
            **{**_TEXT, "num_hidden_layers": 3},
        ),
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_global_layers": 1,
            "attention_heads": 4,
            "image_size": 28,
            "patch_size": 14,
            "vision_output_dim": 64,
            "intermediate_layers_indices": [0],
            "supported_aspect_ratios": [[1, 1], [1, 2], [2, 1]],
            "max_num_tiles": 2,
        },
        image_token_index=3,
    )
    images = MllamaImageProcessorPil(size={"height": 28, "width": 28}, max_image_tiles=2)
    processor = MllamaProcessor(images, words, chat_template=MLLAMA_TEMPLATE)
    return save(folder, MllamaForConditionalGeneration(config), processor, 1)


def _siglip() -> SiglipVisionConfig:
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    return SiglipVisionConfig(image_size=56, patch_size=14, vision_use_head=False, **shape)


def _gemma_processor() -> Gemma3Processor:
    words = tokenizer(
        ["<s>", "</s>", "<pad>", "<image>", "<boi>", "<eoi>"],
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        extra_special_tokens={"image_token": "<image>", "boi_token": "<boi>", "eoi_token": "<eoi>"},
    )
    images = Gemma3ImageProcessorPil(size={"height": 56, "width": 56})
    return Gemma3Processor(images, words, image_seq_length=4, chat_template=GEMMA_TEMPLATE)


def _gemma_text(words: PreTrainedTokenizerFast) -> dict[str, Any]:
    return dict(
        vocab_size=len(words),
        max_position_embeddings=_CONTEXT,
        num_key_value_heads=2,
        head_dim=16,
        sliding_window=24,
        layer_types=["sliding_attention", "full_attention"],
        pad_token_id=2,
        bos_token_id=0,
        eos_token_id=1,
        **_TEXT,
    )


def gemma3(folder: Path) -> Path:
    """Gemma 3: an image's tokens see each other in both directions, a layer sees 24 tokens back."""
    torch.manual_seed(0)
    processor = _gemma_processor()
    config = Gemma3Config(
        text_config=_gemma_text(processor.tokenizer),
        vision_config=_siglip(),
        mm_tokens_per_image=4,
        image_token_index=3,
        boi_token_index=4,
        eoi_token_index=5,
    )
    return save(folder, Gemma3ForConditionalGeneration(config), processor, 1)


def t5gemma2(folder: Path) -> Path:
    """T5Gemma 2: an encoder reads the image and the question, a decoder writes the reply."""
    torch.manual_seed(0)
    processor = _gemma_processor()
    text = _gemma_text(processor.tokenizer)
    special = {"image_token_index": 3, "eoi_token_index": 5}
    encoder = {"text_config": text, "vision_config": _siglip().to_dict(), "mm_tokens_per_image": 4, **special}
    config = T5Gemma2Config(encoder=encoder, decoder=text, **special)
    return save(folder, T5Gemma2ForConditionalGeneration(config), processor, 1)


def paligemma(folder: Path) -> Path:
    """PaliGemma: attention over a prompt is bidirectional, and its processor writes a line break after the text."""
    torch.manual_seed(0)
    images = SiglipImageProcessorPil(size={"height": 56, "width": 56})
    images.image_seq_length = 16
    processor = PaliGemmaProcessor(images, _llava_tokenizer(), chat_template=LLAVA_TEMPLATE)
    size = len(processor.tokenizer)
    config = PaliGemmaConfig(
        text_config=dict(
            model_type="gemma",
            vocab_size=size,
            max_position_embeddings=_CONTEXT,
            num_key_value_heads=1,
            head_dim=16,
            pad_token_id=2,
            **_TEXT,
        ),
        vision_config=_siglip(),
        image_token_index=processor.image_token_id,
        projection_dim=64,
    )
    return save(folder, PaliGemmaForConditionalGeneration(config), processor, 1)


def _prm_tokenizer() -> PreTrainedTokenizerFast:
    words = tokenizer(
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<extra_0>"],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=QWEN_TEMPLATE,
    )
    return words


def _prm_config(words: PreTrainedTokenizerFast, sizes: dict[str, int], **config: Any) -> Qwen2Config:
    return Qwen2Config(
        vocab_size=len(words), max_position_embeddings=_CONTEXT, num_key_value_heads=2, **sizes, **config
    )


def causal_prm(folder: Path, sizes: dict[str, int] = _TEXT) -> Path:
    """Text-only language model to be read at a step tag."""
    torch.manual_seed(1)
    words = _prm_tokenizer()
    return save(folder, Qwen2ForCausalLM(_prm_config(words, sizes)), words, 2)


def head_prm(folder: Path, sizes: dict[str, int] = _TEXT) -> Path:
    """Text-only two-class token classifier."""
    torch.manual_seed(1)
    words = _prm_tokenizer()
    model = Qwen2ForTokenClassification(_prm_config(words, sizes, num_labels=2))
    for parameter in model.parameters():
        parameter.data.mul_(4 if parameter.dim() == 2 else 1)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def value_prm(folder: Path, sizes: dict[str, int] = _TEXT) -> Path:
    """A text-only language model with a value head, saved as Skywork-o1-Open-PRM is."""
    causal_prm(folder, sizes)
    file, random = folder / "model.safetensors", torch.Generator().manual_seed(3)
    head = {
        "v_head.summary.weight": torch.randn(1, sizes["hidden_size"], generator=random) / 8,
        "v_head.summary.bias": torch.randn(1, generator=random),
    }
    save_file(load_file(file) | head, file, metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["Qwen2ForPrmModel"]}))
    return folder
