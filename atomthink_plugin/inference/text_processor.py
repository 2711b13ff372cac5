"""Lets a language model without images take prompts as a multimodal one does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from atomthink_plugin.api import QuestionError


class TextProcessor:
    """A tokenizer with the interface of a processor.

    Attributes:
        tokenizer: The tokenizer.
        chat_template: Its chat template.

    Args:
        tokenizer: The tokenizer.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.chat_template: Any = tokenizer.chat_template

    def apply_chat_template(self, chat: Sequence[Mapping[str, Any]], **options: Any) -> Any:
        """Returns the turns as the chat template writes them. Each turn is one text.

        Raises:
            QuestionError: A turn has an image.
        """
        turns = [{"role": turn["role"], "content": "".join(map(_text, turn["content"]))} for turn in chat]
        return self.tokenizer.apply_chat_template(turns, chat_template=self.chat_template, **options)

    def __call__(self, text: Sequence[str], images: Sequence[Any] | None = None, **options: Any) -> Mapping[str, Any]:
        """Returns the ids of a text.

        Raises:
            QuestionError: There are images.
        """
        if images:
            raise QuestionError("the model reads text alone, and the question has an image")
        inputs: Mapping[str, Any] = self.tokenizer(list(text), **options)
        return inputs


def _text(part: Mapping[str, Any]) -> str:
    if part["type"] != "text":
        raise QuestionError("the model reads text alone, and the question has an image")
    return str(part["text"])
