"""A small tokenizer with the special tokens that a processor asks for."""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

BASIC: Final = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
_FURTHER: Final = ("<sep>", "<mask>", "<cls>")

_NAMED: Final = re.compile(r"self\.(\w+_token)\s*(?::[^=\n]+)?=(?!=)[^\n]*?[\"']((?:<|\[)[^\s\"'{}]+(?:>|\]))[\"']")
_LITERAL: Final = re.compile(r"[\"'](<[^\s\"'<>{}/]+>|\[[A-Z_]+\]|<\|[^\s\"'{}]+\|>)[\"']")
_ASKED: Final = re.compile(r"tokenizer(?:\.|, [\"'])(\w+?_token)(?:_id)?\b")


def special_tokens(processor: type[Any]) -> dict[str, str]:
    """Returns the special tokens that a processor's source names: their names, or their text where it names none."""
    found: dict[str, str] = {}
    for cls in processor.__mro__:
        if not cls.__module__.startswith("transformers.models."):
            continue
        source = inspect.getsource(sys.modules[cls.__module__])
        parameters = inspect.signature(cls.__init__).parameters.values()
        defaults = {one.name: one.default for one in parameters if one.name.endswith("_token")}
        for name, text in defaults.items():
            if isinstance(text, str) and text:
                found.setdefault(name, text)
        for name, text in _NAMED.findall(source):
            found.setdefault(name, text)
        for name in _ASKED.findall(source):
            if name not in BASIC and not name.startswith("add_"):
                found.setdefault(name, f"<{name.removesuffix('_token')}>")
        for text in _LITERAL.findall(source):
            if text not in found.values():
                found.setdefault(text, text)
    return {name: text for name, text in found.items() if text not in BASIC.values()}


def small_tokenizer(
    tokens: Mapping[str, str], prefix: str = "", ordinary: Sequence[str] = (), **options: Any
) -> PreTrainedTokenizerFast:
    """Returns a byte-level tokenizer.

    Args:
        tokens: Special tokens: name and text; those whose name is no identifier are known by their text alone.
        prefix: Text that it puts before each text, as tokenizers of SentencePiece do.
        ordinary: Further tokens, such as `|NAME|`, which are not special.
        **options: Further arguments of the tokenizer.
    """
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    if prefix:
        core.normalizer = normalizers.Prepend(prefix)
    specials = list(dict.fromkeys([*BASIC.values(), *_FURTHER, *tokens.values()]))
    trainer = trainers.BpeTrainer(
        vocab_size=len(specials) + 256 + 64,
        special_tokens=[AddedToken(text, special=True, normalized=False) for text in specials],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(["user: assistant: Step 1: Compute the number of what is shown.\n\n"] * 2, trainer)
    if ordinary:
        core = _extended(core, ordinary)
    named = {name: text for name, text in tokens.items() if name.isidentifier() and name not in BASIC}
    return PreTrainedTokenizerFast(
        tokenizer_object=core, padding_side="left", extra_special_tokens=named, **{**BASIC, **options}
    )


def _extended(core: Tokenizer, words: Sequence[str]) -> Tokenizer:
    """Returns a tokenizer that knows further words, which are not special."""
    state = json.loads(core.to_str())
    vocabulary = state["model"]["vocab"]
    vocabulary.update({word: len(vocabulary) + at for at, word in enumerate(words)})
    state["model"]["ignore_merges"] = True
    core = Tokenizer.from_str(json.dumps(state))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\|[A-Z]+\|| ?\w+| ?[^\s\w]+|\s+"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return core
