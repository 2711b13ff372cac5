"""InternLM2's tokenizer: a SentencePiece model, and `<s>` at the beginning of a text.

transformers has no class for it, and the one that its checkpoints name is Python code of theirs. The conversions to a
fast tokenizer that transformers has for SentencePiece models need a protobuf release that fits sentencepiece's.
"""

from __future__ import annotations

from typing import Any

from transformers.tokenization_utils_sentencepiece import SentencePieceBackend


class InternLM2Tokenizer(SentencePieceBackend):
    """Text between special tokens is encoded by SentencePiece itself, as in the original code."""

    model_input_names = ["input_ids", "attention_mask"]  # noqa: RUF012  # transformers' own way to declare them

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"special_tokens_pattern": "bos", **settings})  # type: ignore[no-untyped-call]

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """Returns the text of pieces; characters that are several bytes are put together."""
        text: str = self.sp_model.decode(tokens)
        return text
