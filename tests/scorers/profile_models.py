"""Tiny random models of the classes of published PRMs, with tokenizers that are trained here."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForTokenClassification,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2ForTokenClassification,
)
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

QWEN_SYSTEM = r"Please reason step by step, and put your final answer within \boxed{}."

QWEN_TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\n" + QWEN_SYSTEM + "<|im_end|>\n"
    "{% endif %}{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

LLAMA_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)

_SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}

_CORPUS = [
    "".join(f"Step {k}: Compute {k} + {k} - 1 = {2 * k}.{end}" for k in range(30))
    for end in ("\n", "\n\n", " \n\n\n\n", " \n\n\n\n\n", " ки\n")
]


def _byte_level(specials: list[str], template: str, **names: str) -> PreTrainedTokenizerFast:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator(_CORPUS, trainer)
    if "bos_token" in names:
        core.post_processor = processors.TemplateProcessing(
            single=f"{names['bos_token']} $A", special_tokens=[(names["bos_token"], 0)]
        )
    return PreTrainedTokenizerFast(tokenizer_object=core, chat_template=template, **names)


def qwen_words() -> PreTrainedTokenizerFast:
    """As Qwen2.5's: no token begins a sequence, and the template writes a system turn of its own."""
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<extra_0>"]
    return _byte_level(specials, QWEN_TEMPLATE, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def llama_words() -> PreTrainedTokenizerFast:
    """As Llama 3's: the tokenizer adds the beginning of a sequence, and the template writes it."""
    specials = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    return _byte_level(specials, LLAMA_TEMPLATE, bos_token="<|begin_of_text|>", eos_token="<|eot_id|>")


def mistral_words() -> PreTrainedTokenizerFast:
    """As Mistral's: a mark for the space before each word, also before the first one."""
    core = Tokenizer(models.BPE(unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("\n", "isolated"), pre_tokenizers.Metaspace(prepend_scheme="first")]
    )
    core.decoder = decoders.Metaspace()
    letters = [chr(code) for code in range(33, 127)]
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=["\n", "к", "и", *letters],
        show_progress=False,
    )
    core.train_from_iterator(_CORPUS, trainer)
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def _saved(folder: Path, model: Any, words: PreTrainedTokenizerFast) -> Path:
    for parameter in model.parameters():  # larger weights give distinct preferences
        parameter.data.mul_(4 if parameter.dim() == 2 else 1)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def _renamed(folder: Path, head: str, architecture: str) -> Path:
    """Calls the classifier of a saved model as the checkpoint of another class does."""
    file = folder / "model.safetensors"
    weights = {name.replace("score.", f"{head}."): value for name, value in load_file(file).items()}
    save_file(weights, file, {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    for name in ("id2label", "label2id", "num_labels"):
        config.pop(name, None)
    (folder / "config.json").write_text(json.dumps(config | {"architectures": [architecture]}))
    return folder


def qwen_causal(folder: Path) -> Path:
    torch.manual_seed(2)
    words = qwen_words()
    return _saved(folder, Qwen2ForCausalLM(Qwen2Config(vocab_size=len(words), **_SIZES)), words)


def qwen_classes(folder: Path) -> Path:
    torch.manual_seed(3)
    words = qwen_words()
    config = Qwen2Config(vocab_size=len(words), num_labels=2, **_SIZES)
    return _saved(folder, Qwen2ForTokenClassification(config), words)


def qwen_value_head(folder: Path) -> Path:
    torch.manual_seed(4)
    words = qwen_words()
    config = Qwen2Config(vocab_size=len(words), num_labels=1, **_SIZES)
    _saved(folder, Qwen2ForTokenClassification(config), words)
    return _renamed(folder, "v_head.summary", "Qwen2ForRewardModel")


def llama_causal(folder: Path) -> Path:
    torch.manual_seed(5)
    words = llama_words()
    return _saved(folder, LlamaForCausalLM(LlamaConfig(vocab_size=len(words), **_SIZES)), words)


def llama_score_head(folder: Path) -> Path:
    """ReasonEval: three classes, and a head without bias."""
    torch.manual_seed(6)
    words = llama_words()
    model = LlamaForTokenClassification(LlamaConfig(vocab_size=len(words), num_labels=3, **_SIZES))
    model.score = torch.nn.Linear(64, 3, bias=False)
    _saved(folder, model, words)
    return _renamed(folder, "score_head", "ReasonEval_34B")


def mistral_causal(folder: Path) -> Path:
    torch.manual_seed(7)
    words = mistral_words()
    config = MistralConfig(vocab_size=len(words), sliding_window=None, **_SIZES)
    return _saved(folder, MistralForCausalLM(config), words)


@cache
def classifier(folder: Path, head: str, outputs: int) -> Any:
    """The model of a renamed checkpoint, as its own class would have it: the backbone and one linear layer."""
    weights = load_file(folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    kind, settings = (
        (Qwen2ForTokenClassification, Qwen2Config)
        if config["model_type"] == "qwen2"
        else (LlamaForTokenClassification, LlamaConfig)
    )
    model = kind(settings(**{name: config[name] for name in (*_SIZES, "vocab_size")}, num_labels=outputs))
    model.model.load_state_dict({k.removeprefix("model."): v for k, v in weights.items() if k.startswith("model.")})
    model.score = torch.nn.Linear(64, outputs, bias=f"{head}.bias" in weights)
    model.score.load_state_dict({k.removeprefix(f"{head}."): v for k, v in weights.items() if k.startswith(head)})
    return model.eval()
