"""Attention of a forward pass in a few dense calls: each covers neighbouring extents of one size, on any device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

import torch

from atomthink_plugin.inference.slots.allocator import Extent
from atomthink_plugin.inference.slots.attention import merged
from atomthink_plugin.inference.slots.attention_kernel import attention_with_lse
from atomthink_plugin.inference.slots.pool import PoolShape, TokenRun
from atomthink_plugin.inference.slots.row import Chunk, Row

_FEW: Final = 8
"""Queries up to which extents share a call whatever their numbers of queries; above, up to the next power of two."""

_CALL: Final = 2**18
"""Numbers of keys that are attended to in the time that a further call takes on its own. So many lie in unused extents
between used ones at most, rather than being left out by two calls."""


@dataclass(frozen=True, slots=True)
class _View:
    """Queries that attend to one extent.

    Attributes:
        extent: Where the keys and values are.
        seen: Tokens of the extent that the first query sees.
        queries: Their places in the forward pass.
        causal: Whether each query sees one token more than the one before it.
    """

    extent: Extent
    seen: int
    queries: range | list[int]
    causal: bool

    @property
    def longest(self) -> int:
        return self.seen + (len(self.queries) - 1 if self.causal else 0)


class _Call:
    """Queries over neighbouring extents of one slab.

    Args:
        views: By place, with similar numbers of queries.
        shape: Of the pool.
    """

    def __init__(self, views: Sequence[_View], shape: PoolShape) -> None:
        first = views[0].extent
        self._start, self._capacity = first.start, first.capacity
        self._count = views[-1].extent.slot - first.slot + 1
        self._most = max(len(view.queries) for view in views)
        self._longest = max(view.longest for view in views)
        index, seen = [0] * self.size, [1] * self.size  # what pads sees one token: of none there is no attention
        self.slots = [view.extent.slot - first.slot for view in views]
        for slot, view in zip(self.slots, views, strict=True):
            begin, count = slot * self._most, len(view.queries)
            index[begin : begin + count] = view.queries
            seen[begin : begin + count] = range(view.seen, view.seen + count) if view.causal else [view.seen] * count
        self._index = torch.tensor(index, device=shape.device)
        self._bias: torch.Tensor | None = None
        if views[0].causal or set(seen) != {self._longest}:
            each = torch.tensor(seen).view(self._count, self._most)
            self._bias = self._bias_of(each, shape.dtype).to(shape.device)
            self._next = (torch.arange(self._count) * self._capacity + each[:, 0]).to(shape.device)

    def places(self, views: Sequence[_View]) -> Iterator[tuple[int, int]]:
        """Yields each query with its place in what `attend` returns."""
        for slot, view in zip(self.slots, views, strict=True):
            yield from zip(view.queries, range(slot * self._most, (slot + 1) * self._most), strict=False)

    @property
    def size(self) -> int:
        """Rows that `attend` returns, padding included."""
        return self._count * self._most

    def attend(
        self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scale: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns attention `[size, query heads, value width]` and log-sum-exp `[size, query heads]`."""
        heads, (_, query_heads, width) = keys.shape[1], queries.shape
        groups = query_heads // heads
        # Query heads that share a head of keys become further queries of that head: nothing is repeated.
        asked = queries.index_select(0, self._index)
        bias = None if self._bias is None else self._bias[..., : self._longest]
        if self._most == 1:
            asked = asked.view(self._count, heads, groups, width)
            out, lse = attention_with_lse(asked, self._extents(keys), self._extents(values), bias, scale)
            return out.reshape(self._count, query_heads, -1), lse.reshape(self._count, query_heads)
        asked = asked.view(self._count, self._most, heads, groups, width)
        asked = asked.permute(0, 2, 3, 1, 4).reshape(self._count, heads, groups * self._most, width)
        if bias is not None and groups > 1 and bias.shape[2] > 1:
            bias = bias.repeat(1, 1, groups, 1)
        out, lse = attention_with_lse(asked, self._extents(keys), self._extents(values), bias, scale)
        out = out.reshape(self._count, heads, groups, self._most, -1).permute(0, 3, 1, 2, 4)
        lse = lse.reshape(self._count, heads, groups, self._most).permute(0, 3, 1, 2)
        return out.reshape(self.size, query_heads, -1), lse.reshape(self.size, query_heads)

    def lengthen(self) -> None:
        """Lets the only query of each extent see one more token."""
        assert self._bias is not None
        self._bias.view(-1).index_fill_(0, self._next.clamp(max=self._bias.numel() - 1), 0.0)
        self._next += 1
        self._longest += 1

    def _bias_of(self, seen: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        if self._most > 1 and bool((seen == seen[:, :1]).all()):
            seen = seen[:, :1]
        hidden = torch.arange(self._capacity) >= seen[..., None]
        return torch.zeros(hidden.shape, dtype=dtype).masked_fill(hidden, -torch.inf)[:, None]

    def _extents(self, states: torch.Tensor) -> torch.Tensor:
        """Returns the extents' states as a view, `[count, heads, longest, width]`."""
        place, head, number = states.stride()
        size = (self._count, states.shape[1], self._longest, states.shape[2])
        return states.as_strided(
            size, (self._capacity * place, head, place, number), states.storage_offset() + self._start * place
        )


class _Part:
    """Calls that answer all queries of a forward pass."""

    def __init__(self, views: Sequence[_View], tokens: int, shape: PoolShape) -> None:
        self.calls, back, at = [], [0] * tokens, 0
        for group in _groups(views, shape.heads * shape.key_width):
            call = _Call(group, shape)
            for query, place in call.places(group):
                back[query] = at + place
            at += call.size
            self.calls.append(call)
        self._back = None if back == list(range(at)) else torch.tensor(back, device=shape.device)

    def attend(
        self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scale: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns attention and log-sum-exp by the order of the queries."""
        parts = [call.attend(queries, keys, values, scale) for call in self.calls]
        out, lse = parts[0]
        if len(parts) > 1:
            out, lse = torch.cat([one for one, _ in parts]), torch.cat([one for _, one in parts])
        if self._back is None:
            return out, lse
        return out.index_select(0, self._back), lse.index_select(0, self._back)


class DensePlan:
    """The plan of a forward pass for devices without a kernel for sequences of different lengths.

    Attributes:
        places: See `AttentionPlan`.

    Args:
        chunks: What each row reads.
        shape: Of the pool.
    """

    def __init__(self, chunks: Sequence[Chunk], shape: PoolShape) -> None:
        places: list[int] = []
        own: list[_View] = []
        shared: dict[tuple[int, int], tuple[TokenRun, list[int]]] = {}
        for chunk in chunks:
            row, count = chunk.row, len(chunk.ids)
            queries = range(len(places), len(places) + count)
            begin = row.own.start + row.length
            places += range(begin, begin + count)
            own.append(_View(row.own, row.length + 1, queries, causal=True))
            shared.setdefault(_prefix(row), (row.shared, []))[1].extend(queries)
        begun = [_View(run.extent, len(run), queries, causal=False) for run, queries in shared.values()]
        self.places = torch.tensor(places, device=shape.device)
        self._own, self._shared = (_Part(views, len(places), shape) for views in (own, begun))

    def attend(self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scale: float) -> torch.Tensor:
        """See `AttentionPlan`."""
        shared = self._shared.attend(queries, keys, values, scale)
        return merged(shared, self._own.attend(queries, keys, values, scale))

    def advance(self) -> None:
        """Makes it the plan of the next forward pass if each row has read one token and reads one more."""
        self.places += 1
        for call in self._own.calls:
            call.lengthen()


def _prefix(row: Row) -> tuple[int, int]:
    return row.shared.start, len(row.shared)


def _groups(views: Sequence[_View], numbers: int) -> Iterator[list[_View]]:
    """Divides views into those that one call answers: neighbours in one slab with similar numbers of queries.

    Args:
        views: The views.
        numbers: Of a token's key.
    """

    def kind(view: _View) -> tuple[int, int, int]:
        count = len(view.queries)
        return view.extent.slab.start, view.extent.capacity, _FEW if count <= _FEW else count.bit_length() + _FEW

    for (_, _, most), alike in groupby(sorted(views, key=lambda view: (kind(view), view.extent.slot)), key=kind):
        group: list[_View] = []
        for view in alike:
            gap = _CALL // (view.extent.capacity * numbers) if most == _FEW else 0
            if group and not 0 < view.extent.slot - group[-1].extent.slot <= gap + 1:
                yield group
                group = []
            group.append(view)
        yield group
