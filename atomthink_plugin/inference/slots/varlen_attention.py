"""Attention of a forward pass in two calls of a kernel for sequences of different lengths, which CUDA has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

import torch

from atomthink_plugin.inference.slots.attention import merged
from atomthink_plugin.inference.slots.pool import PoolShape, TokenRun
from atomthink_plugin.inference.slots.row import Chunk
from atomthink_plugin.inference.slots.transfers import sent

_FLASH: Final = torch.ops.aten._flash_attention_forward
"""torch's flash kernel; the public function above it fills a further tensor in each layer."""

_PINNED: Final = {name: 1 for name in ("num_splits",) if name in {one.name for one in _FLASH.default._schema.arguments}}
"""Keys are read in one piece, so that a row's attention does not depend on the others; older releases never split."""

_TILE: Final = 128
"""Queries that the kernel answers in one reading of keys."""


@dataclass(frozen=True, slots=True)
class Spans:
    """Consecutive queries that attend to consecutive places of the pool.

    Attributes:
        cuts: `[spans + 1]`, int32: the first query of each span, and the end of the last one's.
        starts: `[spans + 1]`, int32: the place of each span's first key; the last number is not used.
        seen: `[spans]`, int32: how many keys the last query of each span sees.
        most: Queries of a span at most.
        longest: Keys of a span at most.
        causal: Whether each query sees one key more than the one before it.
    """

    cuts: torch.Tensor
    starts: torch.Tensor
    seen: torch.Tensor
    most: int
    longest: int
    causal: bool


def flash_attention(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, spans: Spans, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns attention, `[queries, heads, width]`, and log-sum-exp, `[queries, heads]`, in float32.

    Args:
        queries: `[queries, heads, width]`.
        keys: `[places, heads, width]`; its heads may be fewer.
        values: The same for values.
        spans: Which queries see which keys.
        scale: Factor of the scores.
    """
    out, lse, *_ = _FLASH(
        queries,
        keys,
        values,
        spans.cuts,
        spans.starts,
        spans.most,
        spans.longest,
        0.0,
        spans.causal,
        False,
        scale=scale,
        seqused_k=spans.seen,
        **_PINNED,
    )
    return out, lse.transpose(0, 1)


class VarlenPlan:
    """The plan of a forward pass for devices with a kernel for sequences of different lengths.

    Attributes:
        places: See `AttentionPlan`.

    Args:
        chunks: What each row reads.
        shape: Of the pool.
        groups: Query heads for each head of keys.
    """

    def __init__(self, chunks: Sequence[Chunk], shape: PoolShape, groups: int) -> None:
        order = by_prefix(chunks)
        layout = _Layout([chunks[at] for at in order], groups)
        self.places = sent(torch.tensor([place for chunk in chunks for place in _places(chunk)]), shape.device)
        self._own, self._shared = layout.spans(sent(torch.tensor(layout.numbers, dtype=torch.int32), shape.device))
        self._fold = layout.fold
        self._order: torch.Tensor | None = None
        if order != sorted(order):
            begins = [0, *accumulate(len(chunk.ids) for chunk in chunks)]
            moved = torch.tensor([query for at in order for query in range(begins[at], begins[at + 1])])
            self._order, self._back = (sent(one, shape.device) for one in (moved, torch.argsort(moved)))

    def attend(self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scale: float) -> torch.Tensor:
        """See `AttentionPlan`."""
        if self._order is not None:
            queries = queries.index_select(0, self._order)
        out = _attend(queries, keys, values, scale, (self._shared, self._own), self._fold)
        return out if self._order is None else out.index_select(0, self._back)

    def advance(self) -> None:
        """Makes it the plan of the next forward pass if each row has read one token and reads one more."""
        self.places += 1
        self._own.seen.add_(1)


class FixedVarlenPlan:
    """The plan of passes over up to `rows` tokens, with tensors that stay where they are, as a captured graph needs.

    Each token has a span of its own, also where several are of one row. Those beyond the ones in use read and write one
    place, over and over.

    Attributes:
        places: See `AttentionPlan`.

    Args:
        rows: Tokens of each pass.
        spare: The place of tokens that are not in use.
        shape: Of the pool.
        groups: Query heads for each head of keys.
        longest: Tokens of a shared or own part at most.
    """

    def __init__(self, rows: int, spare: int, shape: PoolShape, groups: int, longest: int) -> None:
        self._rows, self._spare, self._groups, self._longest = rows, spare, groups, longest
        layout = self._layout([])
        self.places = torch.full((rows,), spare, device=shape.device)
        self._live = torch.zeros(rows, dtype=torch.int64, device=shape.device)
        self._numbers = torch.tensor(layout.numbers, dtype=torch.int32).to(shape.device)
        self._own, self._shared = layout.spans(self._numbers)
        self._fold = layout.fold

    def load(self, chunks: Sequence[Chunk]) -> None:
        """Makes it the plan of these chunks.

        Args:
            chunks: What each row reads; rows with the same shared tokens follow each other.

        Raises:
            ValueError: They are in another order, or too many.
        """
        places = [place for chunk in chunks for place in _places(chunk)]
        unused = self._rows - len(places)
        if unused < 0 or by_prefix(chunks) != list(range(len(chunks))):
            raise ValueError(f"{len(places)} tokens of a plan for {self._rows} are too many or not by shared tokens")
        device = self.places.device
        self.places.copy_(sent(torch.tensor([*places, *[self._spare] * unused]), device))
        self._live.copy_(sent(torch.tensor([*[1] * len(places), *[0] * unused]), device))
        self._numbers.copy_(sent(torch.tensor(self._layout(chunks).numbers, dtype=torch.int32), device))

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        """All that differs between two steps."""
        return self.places, self._live, self._numbers

    def attend(self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scale: float) -> torch.Tensor:
        """See `AttentionPlan`."""
        return _attend(queries, keys, values, scale, (self._shared, self._own), self._fold)

    def advance(self) -> None:
        """Makes it the plan of the next pass if each row has read one token and reads one more."""
        self.places.add_(self._live)
        self._own.seen.add_(self._live)

    def _layout(self, chunks: Sequence[Chunk]) -> _Layout:
        return _Layout(chunks, self._groups, self._rows, self._spare, self._longest)


class _Layout:
    """The numbers of both parts of a pass, in one list so that they travel to the device together.

    Args:
        chunks: By shared tokens.
        groups: Query heads for each head of keys.
        rows: Tokens of a pass of fixed shape; by default the chunks alone.
        spare: Place of the tokens that are in no chunk.
        longest: See `FixedVarlenPlan`.
    """

    def __init__(
        self, chunks: Sequence[Chunk], groups: int, rows: int = 0, spare: int = 0, longest: int | None = None
    ) -> None:
        one = rows > 0 or all(len(chunk.ids) == 1 for chunk in chunks)
        # Query heads that share a head of keys become further queries of that head, so that its keys are read once.
        self.fold = groups if one else 1
        self._causal = not one
        own = [span for chunk in chunks for span in _own_spans(chunk, one)]
        unused = max(rows - len(own), 0) if rows else 0
        room = max((chunk.row.own.capacity for chunk in chunks), default=0)  # `advance` lets queries see more
        shared = _tiles(chunks, max(1, _TILE // self.fold))
        own += [(spare, 1, 1)] * unused
        shared += [(spare, 1, 1)] * unused
        # Every row may have a prefix of its own; spans without queries cost next to nothing.
        shared += [(spare, 1, 0)] * max(rows - len(shared), 0)
        self.numbers: list[int] = []
        self._most, self._longest, self._counts = list[int](), list[int](), list[int]()
        for part in (own, shared):
            self.numbers += [cut * self.fold for cut in (0, *accumulate(count for _, _, count in part))]
            self.numbers += [*(start for start, _, _ in part), 0]
            self.numbers += [seen for _, seen, _ in part]
            fixed = min(max(_TILE, self.fold), rows * self.fold) if part is shared else self.fold
            self._most.append(fixed if rows else self.fold * max(count for _, _, count in part))
            self._longest.append(longest or max(room, *(seen for _, seen, _ in part)))
            self._counts.append(len(part))

    def spans(self, numbers: torch.Tensor) -> tuple[Spans, Spans]:
        """Returns views of `numbers` on the device: the own part's, and the shared part's."""
        made: list[Spans] = []
        at = 0
        for count, most, longest in zip(self._counts, self._most, self._longest, strict=True):
            cuts, starts, seen = torch.split(numbers[at : at + 3 * count + 2], [count + 1, count + 1, count])
            made.append(Spans(cuts, starts, seen, most, longest, causal=self._causal and not made))
            at += 3 * count + 2
        return made[0], made[1]


def _attend(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    scale: float,
    parts: tuple[Spans, Spans],
    fold: int,
) -> torch.Tensor:
    tokens, query_heads, width = queries.shape
    if fold > 1:
        queries = queries.view(tokens, -1, fold, width).transpose(1, 2).reshape(tokens * fold, -1, width)
    shared, own = (flash_attention(queries, keys, values, spans, scale) for spans in parts)
    out = merged(shared, own)
    if fold > 1:
        out = out.view(tokens, fold, -1, out.shape[-1]).transpose(1, 2).reshape(tokens, query_heads, -1)
    return out


def by_prefix(chunks: Sequence[Chunk]) -> list[int]:
    """Returns the chunks' indices such that those with the same shared tokens follow each other."""
    first: dict[tuple[int, int], int] = {}
    return sorted(range(len(chunks)), key=lambda at: first.setdefault(_prefix(chunks[at]), at))


def _tiles(chunks: Sequence[Chunk], most: int) -> list[tuple[int, int, int]]:
    """Returns start, length and queries of shared runs: one with more than `most` queries appears several times."""
    counts: dict[tuple[int, int], int] = {}
    for chunk in chunks:
        counts[_prefix(chunk)] = counts.get(_prefix(chunk), 0) + len(chunk.ids)
    return [
        (start, length, min(most, count - done))
        for (start, length), count in counts.items()
        for done in range(0, count, most)
    ]


def _own_spans(chunk: Chunk, one: bool) -> list[tuple[int, int, int]]:
    """Returns start, keys and queries of a row's own tokens: in `one` span for each query, or for all of them."""
    row, count = chunk.row, len(chunk.ids)
    if one:
        return [(row.own.start, row.length + at, 1) for at in range(1, count + 1)]
    return [(row.own.start, row.length + count, count)]


def _prefix(chunk: Chunk) -> tuple[int, int]:
    run: TokenRun = chunk.row.shared
    return run.start, len(run)


def _places(chunk: Chunk) -> range:
    begin = chunk.row.own.start + chunk.row.length
    return range(begin, begin + len(chunk.ids))
