"""A row of a running batch: tokens that it shares with other rows, and its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from atomthink_plugin.inference.slots.allocator import Extent
from atomthink_plugin.inference.slots.pool import TokenRun


@dataclass(eq=False)
class Row:
    """A sequence whose tokens are in the pool.

    Attributes:
        shared: Its first tokens, which other rows attend to as well.
        own: Where all further tokens are.
        length: Tokens in `own`.
        shift: What images add to the positions of text after them.
    """

    shared: TokenRun
    own: Extent
    length: int = 0
    shift: int = 0

    @property
    def position(self) -> int:
        """Position of its next token, as the model counts."""
        return len(self.shared) + self.length + self.shift


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens that a row reads in one forward pass."""

    row: Row
    ids: Sequence[int]

    @property
    def positions(self) -> torch.Tensor:
        """Positions of its tokens, as the model counts."""
        return torch.arange(self.row.position, self.row.position + len(self.ids))
