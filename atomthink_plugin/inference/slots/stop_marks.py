"""Which tokens may end a row: after all others nothing has to be decoded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from transformers import PreTrainedTokenizerBase

from atomthink_plugin.inference.sampling import decode

_SETS: Final = 16
"""Sets of stop strings that the table has room for at first; it doubles."""

_BROKEN: Final = "\ufffd"
"""How a token is decoded that is part of a character."""

_BEFORE: Final = "x"
"""Text after which each token is decoded: at the beginning of a text some tokenizers leave out a blank."""


class StopMarks:
    """A table of the tokens after which a row ends or may have reached a stop string, one row per set of stop strings.

    A stop string is complete only after a token that has its last character, or the last byte of it: characters of
    ASCII have one byte, and others may be spread over tokens. Tokens that decode to nothing may complete any.

    Attributes:
        table: `[sets, vocabulary]`, bool. It is replaced when it is full, and filled in place until then.

    Args:
        tokenizer: Decodes the tokens.
        ends: Ids that end a reply.
        vocabulary: Number of tokens of the model.
        device: Where the table is.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, ends: Sequence[int], vocabulary: int, device: torch.device
    ) -> None:
        self.table = torch.zeros(_SETS, vocabulary, dtype=torch.bool, device=device)
        self._tokenizer, self._ends = tokenizer, list(ends)
        self._indices: dict[tuple[str, ...], int] = {}
        self._texts: list[str] = []

    def index(self, stops: tuple[str, ...]) -> int:
        """Returns which row of the table is that of these stop strings."""
        if stops not in self._indices:
            self._indices[stops] = len(self._indices)
            if len(self._indices) > len(self.table):
                self.table = torch.cat([self.table, torch.zeros_like(self.table)])
            self.table[self._indices[stops]] = self._row(stops).to(self.table.device)
        return self._indices[stops]

    def _row(self, stops: tuple[str, ...]) -> torch.Tensor:
        vocabulary = self.table.shape[1]
        marked = torch.zeros(vocabulary, dtype=torch.bool)
        marked[[token for token in self._ends if token < vocabulary]] = True
        if stops:
            last = {stop[-1:] for stop in stops}
            texts = self._all_texts() + [""] * (vocabulary - len(self._all_texts()))
            if not all(character.isascii() for character in last):
                last.add(_BROKEN)
            marked |= torch.tensor([not text or any(character in text for character in last) for text in texts])
        return marked

    def _all_texts(self) -> list[str]:
        """Returns the text of each token after other text; decoded once."""
        if not self._texts:
            first: list[int] = self._tokenizer.encode(_BEFORE, add_special_tokens=False)
            before = decode(self._tokenizer, first)
            for token in range(min(len(self._tokenizer), self.table.shape[1])):
                self._texts.append(decode(self._tokenizer, [*first, token]).removeprefix(before))
        return self._texts
