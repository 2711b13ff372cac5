"""Tokens whose text holds a stop string: an engine that knows their ids ends a sample at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from transformers import PreTrainedTokenizerBase

from atomthink_plugin.inference.sampling import decode

_BROKEN: Final = "\ufffd"
"""How the part of a character is decoded."""

_BEFORE: Final = "x"
"""Text after which each token is decoded: at the beginning of a text some tokenizers leave out a blank."""


class StopTokens:
    """Finds the tokens of a vocabulary that hold a whole stop string, such as a full stop with a blank line.

    Args:
        tokenizer: Decodes the tokens.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._found: dict[str, dict[int, str]] = {}
        self._texts: list[str] = []

    def __call__(self, stops: Sequence[str]) -> dict[int, str]:
        """Returns the text of each token that holds one of the stop strings, by its id."""
        found: dict[int, str] = {}
        for stop in stops:
            if stop not in self._found:
                texts = enumerate(self._all_texts())
                self._found[stop] = {token: text for token, text in texts if stop in text and _BROKEN not in text}
            found |= self._found[stop]
        return found

    def _all_texts(self) -> list[str]:
        """Returns the text of each token after other text."""
        if not self._texts:
            first: list[int] = self._tokenizer.encode(_BEFORE, add_special_tokens=False)
            before = decode(self._tokenizer, first)
            ids = [[*first, token] for token in range(len(self._tokenizer))]
            texts = self._tokenizer.batch_decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            self._texts = [text.removeprefix(before) for text in texts]
        return self._texts
