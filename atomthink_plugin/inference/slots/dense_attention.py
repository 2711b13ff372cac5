"""Attention of a forward pass in a few dense calls: each covers neighbouring extents of one size, on any device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

import torch

from atomthink_plugin.inference.slots.allocator import Extent
from atomthink_plugin.inference.slots.attention import merged
from atomthink_plugin.inference.slots.attention_kernel import attention_with_lse
from atomthink_plugin.inference.slots.pool import PoolShape, TokenRun
from atomthink_plugin.inference.slots.row import Chunk

_FEW: Final = 8
"""Queries up to which extents share a call whatever their numbers of queries; above, up to the next power of two."""

_CALL: Final = 2**18
"""Products that a CPU computes in the time that a further call takes on its own. Unused extents between used ones are
computed up to so many, rather than being left out by two calls."""

_HEAD: Final = 2**13
"""The same for one head of one extent, without its products."""


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
    queries: Sequence[int]
    causal: bool

    @property
    def order(self) -> tuple[int, int, int]:
        """Views of one slab with similar numbers of queries come together, by place."""
        count = len(self.queries)
        return self.extent.slab.start, _FEW if count <= _FEW else count.bit_length() + _FEW, self.extent.slot


class _Call:
    """Queries over neighbouring extents of one slab.

    Attributes:
        places: For each view the place of its first query among those of the call.
        size: Queries, padding included: each extent has as many as the one with the most.

    Args:
        views: By place, with similar numbers of queries.
        shape: Of the pool.
    """

    def __init__(self, views: Sequence[_View], shape: PoolShape) -> None:
        first = views[0].extent
        slots = [view.extent.slot - first.slot for view in views]
        self._start, self._capacity = first.start, first.capacity
        self._count, self._most = slots[-1] + 1, max(len(view.queries) for view in views)
        self.size = self._count * self._most
        self.places = [slot * self._most for slot in slots]
        self._causal = views[0].causal
        ends = [view.seen + (len(view.queries) - 1 if self._causal else 0) for view in views]
        self._longest = max(ends)
        self._bias: torch.Tensor | None = None
        self._seen: torch.Tensor | None = None  # the part of it that a pass needs, by query
        if self._causal or min(ends) < self._longest:
            self._mask(views, slots, shape)

    def attend(
        self, asked: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scale: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns attention `[size, query heads, value width]` and log-sum-exp `[size, query heads]`.

        Args:
            asked: Queries by place, `[size, query heads, width]`.
            keys: One layer of the pool, `[places, heads, width]`.
            values: The same for values.
            scale: Factor of the scores.
        """
        heads, (_, query_heads, width) = keys.shape[1], asked.shape
        groups, count, most = query_heads // heads, self._count, self._most
        # Query heads that share a head of keys become further queries of that head: nothing is repeated.
        if groups == 1:
            asked = asked.view(count, most, heads, width).transpose(1, 2)
        else:
            asked = asked.view(count, most, heads, groups, width).transpose(1, 2).reshape(count, heads, -1, width)
        out, lse = attention_with_lse(asked, self._extents(keys), self._extents(values), self._biased(groups), scale)
        out, lse = out.transpose(1, 2), lse.transpose(1, 2)
        if groups > 1:
            out = out.view(count, most, groups, heads, -1).transpose(2, 3)
            lse = lse.view(count, most, groups, heads).transpose(2, 3)
        return out.reshape(self.size, query_heads, -1), lse.reshape(self.size, query_heads)

    def lengthen(self) -> None:
        """Lets the only query of each extent see one more token."""
        assert self._bias is not None
        self._bias.view(-1).index_fill_(0, self._next.clamp(max=self._bias.numel() - 1), 0.0)
        self._next += 1
        self._longest += 1
        self._seen = None

    def _mask(self, views: Sequence[_View], slots: Sequence[int], shape: PoolShape) -> None:
        """Sets what is added to the scores, `[count, 1, 1 or most, capacity]`."""
        queries = self._most if self._causal else 1
        seen = [1] * (self._count * queries)  # what pads sees one token: of none there is no attention
        for slot, view in zip(slots, views, strict=True):
            for at in range(len(view.queries) if self._causal else 1):
                seen[slot * queries + at] = view.seen + at
        each = torch.tensor(seen).view(self._count, queries)
        hidden = torch.arange(self._capacity) >= each[..., None]
        bias = torch.zeros(hidden.shape, dtype=shape.dtype).masked_fill_(hidden, -torch.inf)
        self._bias = bias[:, None].to(shape.device)
        self._next = (torch.arange(self._count) * self._capacity + each[:, 0]).to(shape.device)

    def _biased(self, groups: int) -> torch.Tensor | None:
        if self._seen is None and self._bias is not None:
            self._seen = self._bias[..., : self._longest]
            if groups > 1 and self._seen.shape[2] > 1:
                self._seen = self._seen.repeat_interleave(groups, dim=2)
        return self._seen

    def _extents(self, states: torch.Tensor) -> torch.Tensor:
        """Returns the extents' states as a view, `[count, heads, longest, width]`."""
        place, head, number = states.stride()
        size = (self._count, states.shape[1], self._longest, states.shape[2])
        return states.as_strided(
            size, (self._capacity * place, head, place, number), states.storage_offset() + self._start * place
        )


class _Part:
    """Calls that answer all queries of a forward pass over one part of their rows.

    Args:
        views: Of the part.
        tokens: Queries of the forward pass.
        shape: Of the pool.
    """

    def __init__(self, views: Sequence[_View], tokens: int, shape: PoolShape) -> None:
        self.calls: list[_Call] = []
        asked: list[int] = []
        back = [0] * tokens
        for group in _groups(views, shape):
            call, at = _Call(group, shape), len(asked)
            asked += [0] * call.size
            for view, place in zip(group, call.places, strict=True):
                for to, query in enumerate(view.queries, at + place):
                    asked[to], back[query] = query, to
            self.calls.append(call)
        self._asked, self._back = (torch.tensor(one, device=shape.device) for one in (asked, back))
        self._sizes = [call.size for call in self.calls]

    def attend(
        self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scale: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns attention and log-sum-exp by the order of the queries."""
        asked = torch.split(queries.index_select(0, self._asked), self._sizes)
        parts = [call.attend(one, keys, values, scale) for call, one in zip(self.calls, asked, strict=True)]
        out, lse = parts[0]
        if len(parts) > 1:
            out, lse = torch.cat([one for one, _ in parts]), torch.cat([one for _, one in parts])
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
            shared.setdefault((row.shared.start, len(row.shared)), (row.shared, []))[1].extend(queries)
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


def _groups(views: Sequence[_View], shape: PoolShape) -> list[list[_View]]:
    """Divides views into those that one call answers: neighbours in one slab with similar numbers of queries."""
    groups: list[list[_View]] = []
    before: tuple[int, int] | None = None
    last = gap = 0
    for view in sorted(views, key=attrgetter("order")):
        slab, most, slot = view.order
        if (slab, most) != before or not 0 < slot - last <= gap + 1:
            groups.append([])
            products = view.extent.capacity * len(view.queries) * shape.key_width
            gap = _CALL // (shape.heads * (_HEAD + products))
        groups[-1].append(view)
        before, last = (slab, most), slot
    return groups
