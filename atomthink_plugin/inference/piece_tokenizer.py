"""Tokenises a text in pieces, so that the ids of a path are a prefix of the ids of every extension of it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from transformers import PreTrainedTokenizerBase

from atomthink_plugin.inference.memo import Memo

_PIECES: Final = 16384
"""Pieces whose ids are remembered: searches come back to the same steps, and training to the same records."""

_ANCHOR: Final = "\n"
"""Pieces after the first are tokenised after a line break, so that a tokenizer that puts a space before
the first word of a text (SentencePiece) does not put one before every step."""


class PieceTokenizer:
    """Tokenises consecutive pieces of one text; the ids of a piece do not depend on later pieces.

    Args:
        tokenizer: The model's tokenizer.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._ids = Memo(partial(_tokenise, tokenizer, _plain(tokenizer, _ANCHOR)), _PIECES)

    def ids(self, piece: str, first: bool) -> tuple[int, ...]:
        """Returns the ids of a piece.

        Args:
            piece: Its text.
            first: Whether it begins the text.
        """
        return self._ids(piece, first)

    def split(self, pieces: Sequence[str]) -> list[tuple[int, ...]]:
        """Returns the ids of each piece of a text."""
        return [self.ids(piece, index == 0) for index, piece in enumerate(pieces)]


def _tokenise(tokenizer: PreTrainedTokenizerBase, anchor: tuple[int, ...], piece: str, first: bool) -> tuple[int, ...]:
    if not first:
        anchored = _plain(tokenizer, _ANCHOR + piece)
        if anchored[: len(anchor)] == anchor:
            return anchored[len(anchor) :]
    return _plain(tokenizer, piece)


def _plain(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return tuple(ids)
