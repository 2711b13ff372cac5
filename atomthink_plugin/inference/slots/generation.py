"""A sample on its way through a running batch, and which samples share a row.

Samples of one prompt that have sampled the same tokens so far get the same logits: one row reads their tokens for all
of them. Each has places of its own from the start, and its tokens are copied there once it samples another token.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from atomthink_plugin.inference.decoding import GenerationRequest
from atomthink_plugin.inference.slots.reader import SlotReader
from atomthink_plugin.inference.slots.row import Row


@dataclass(eq=False)
class Generation:
    """A request on its way.

    Attributes:
        request: What is generated.
        urgency: Requests of higher urgency join first.
        cancelled: Whether nobody waits for it any more.
        row: Its row, while it is in a batch.
        follows: The sample whose row has its tokens, because both have sampled the same ones so far; None if they are
            in its own row.
        ids: Sampled tokens.
        logprobs: For each of them what `token_logprobs` returns.
        read: Prompt tokens that went through the model for it.
        images: Images encoded for it.
    """

    request: GenerationRequest
    urgency: int = 0
    cancelled: bool = False
    row: Row | None = None
    follows: Generation | None = None
    ids: list[int] = field(default_factory=list)
    logprobs: list[list[float]] = field(default_factory=list)
    read: int = 0
    images: int = 0

    def restart(self) -> None:
        """Forgets what was generated."""
        self.row, self.follows, self.ids, self.logprobs, self.read, self.images = None, None, [], [], 0, 0

    @property
    def holder(self) -> Generation:
        """The sample whose row has its tokens."""
        return self.follows or self


def row_of(sample: Generation) -> Row:
    """Returns the places of a sample in a batch."""
    assert sample.row is not None
    return sample.row


def shared_rows(samples: Sequence[Generation]) -> tuple[list[Generation], list[int]]:
    """Returns the samples whose rows are read, and for each sample the index of its row among these."""
    holders: dict[Generation, int] = {}
    indices = [holders.setdefault(one.holder, len(holders)) for one in samples]
    return list(holders), indices


def diverge(samples: Sequence[Generation], reader: SlotReader) -> bool:
    """Copies the tokens of samples that have sampled another token than the one whose row they shared.

    Returns:
        Whether there were any.
    """
    rows = {(one, one.ids[-1]): one for one in samples if one.follows is None}
    before = len(rows)
    for one in samples:
        if one.follows is None:
            continue
        key = one.follows, one.ids[-1]
        if key in rows:
            one.follows = rows[key]
        else:
            reader.copy(row_of(one.follows), row_of(one))
            rows[key], one.follows = one, None
    return len(rows) > before


def hand_over(leaving: Collection[Generation], samples: Sequence[Generation]) -> None:
    """Lets samples that stay keep the rows which they share with samples that leave."""
    heirs: dict[Generation, Generation] = {}
    for one in samples:
        if one.follows is None or one.follows not in leaving or one in leaving:
            continue
        holder = one.follows
        if holder in heirs:
            one.follows = heirs[holder]
        else:
            heirs[holder], one.follows = one, None
            one.row, holder.row = holder.row, one.row
