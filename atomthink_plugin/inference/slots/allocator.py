"""Places for tokens in a flat pool: equal extents lie side by side, so that one strided view covers many of them."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Final

UNIT: Final = 16
"""Tokens of the smallest extent."""

_SLAB: Final = 8192
"""Tokens of a slab at most; a larger extent has a slab of its own."""

_SLOTS: Final = 64
"""Extents of a slab at most."""


_SHARE: Final = 16
"""A slab takes at most one such part of a small pool, which needs room for extents of other sizes."""


class PoolFullError(Exception):
    """The pool has no room for an extent, and may not grow."""


@dataclass(eq=False)
class Slab:
    """A region of equal extents.

    Attributes:
        start: Its first place in the pool.
        capacity: Tokens of each extent.
        count: Number of extents.
        last: Whether it was taken from the end of the pool.
        free: Numbers of the free extents, a heap: the lowest is used first, so that those in use lie close together.
    """

    start: int
    capacity: int
    count: int
    last: bool
    free: list[int] = field(default_factory=list)


@dataclass(eq=False)
class Extent:
    """Consecutive places in the pool.

    Attributes:
        slab: Where it lies.
        slot: Its number there.
        users: How many rows and nodes of the prefix tree hold it.
    """

    slab: Slab
    slot: int
    users: int = 1

    @property
    def start(self) -> int:
        """Its first place."""
        return self.slab.start + self.slot * self.slab.capacity

    @property
    def capacity(self) -> int:
        """Number of places."""
        return self.slab.capacity


class Allocator:
    """Hands out extents of a pool, first fit.

    Attributes:
        used: Places of all extents in use.

    Args:
        size: Places of the pool.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.used = 0
        self._regions = [(0, size)] if size else []  # free, by start: (start, length)
        self._slabs: dict[tuple[int, bool], list[Slab]] = {}  # with free extents, by capacity and end

    def allocate(self, tokens: int, last: bool = False) -> Extent:
        """Returns an extent of at least `tokens` places.

        Args:
            tokens: The number.
            last: Whether to take it from the end of the pool. Extents of a short life lie there, so that those of a
                long life between them do not keep their places from being used again.

        Raises:
            PoolFullError: There is no room.
        """
        capacity = capacity_of(tokens)
        slabs = self._slabs.setdefault((capacity, last), [])
        slab = min(slabs, key=lambda one: one.start, default=None) or self._cut(capacity, last)
        slot = heappop(slab.free)
        if not slab.free:
            slabs.remove(slab)
        self.used += capacity
        return Extent(slab, slot)

    def release(self, extent: Extent) -> None:
        """Takes back one use of an extent; without any, its places are free."""
        extent.users -= 1
        if extent.users:
            return
        slab = extent.slab
        self.used -= slab.capacity
        if not slab.free:
            self._slabs[slab.capacity, slab.last].append(slab)
        heappush(slab.free, extent.slot)
        if len(slab.free) == slab.count:
            self._slabs[slab.capacity, slab.last].remove(slab)
            self._join(slab.start, slab.capacity * slab.count)

    def grow(self, size: int) -> None:
        """Adds places at the end, up to `size`."""
        self._join(self.size, size - self.size)
        self.size = size

    def _cut(self, capacity: int, last: bool) -> Slab:
        """Makes a slab of a free region: as many extents as a slab has, or as fit."""
        count = max(1, min(_SLOTS, _SLAB // capacity, self.size // (_SHARE * capacity)))
        while count:
            size = count * capacity
            fits = [region for region in self._regions if region[1] >= size]
            if fits:
                start, length = fits[-1 if last else 0]
                self._regions.remove((start, length))
                begin = start + length - size if last else start
                if length > size:
                    insort(self._regions, (start if last else start + size, length - size))
                slab = Slab(begin, capacity, count, last, list(range(count)))
                self._slabs[capacity, last].append(slab)
                return slab
            count //= 2
        raise PoolFullError(f"no room for {capacity} tokens in a pool of {self.size}")

    def _join(self, start: int, length: int) -> None:
        """Returns a region to the free ones, joined with its neighbours."""
        insort(self._regions, (start, length))
        joined: list[tuple[int, int]] = []
        for region in self._regions:
            if joined and sum(joined[-1]) == region[0]:
                joined[-1] = (joined[-1][0], joined[-1][1] + region[1])
            else:
                joined.append(region)
        self._regions = joined


def capacity_of(tokens: int) -> int:
    """Returns the places of an extent for `tokens` tokens: few sizes, and at most a quarter unused in long ones."""
    step = UNIT if tokens <= 64 else max(64, 2 ** (tokens.bit_length() - 1) // 4)
    return -(-max(tokens, 1) // step) * step
