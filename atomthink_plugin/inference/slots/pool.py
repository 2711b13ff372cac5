"""Keys and values of all tokens that a model has read, in two tensors: extents of them are shared and forked."""

from __future__ import annotations

import math
import mmap
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy
import torch

from atomthink_plugin.inference.slots.allocator import Allocator, Extent, PoolFullError
from atomthink_plugin.inference.slots.transfers import sent

_RESERVES_NOTHING: Final = 0x4000 if sys.platform == "linux" else 0
"""MAP_NORESERVE: a pool is larger than what is used of it, and must not count as used memory."""

_FIRST_SHARE: Final = 1 / 8
"""Share of the host's memory that a pool on a CPU may fill before it grows. Places that were never used take none."""

_COPIED_BYTES: Final = 2**29
"""Keys and values that are copied at once on a GPU, whose memory they take for that time."""

_GROWTH: Final = 1.5
"""By how much a pool that grows does so at least."""


@dataclass(frozen=True)
class PoolShape:
    """What one token needs in a pool.

    Attributes:
        layers: Layers of the model.
        heads: Heads of keys and values.
        key_width: Numbers of a key.
        value_width: Numbers of a value.
        dtype: Their precision.
        device: Where the model runs.
    """

    layers: int
    heads: int
    key_width: int
    value_width: int
    dtype: torch.dtype
    device: torch.device

    @property
    def token_bytes(self) -> int:
        """Bytes of one token's keys and values in all layers."""
        return self.layers * self.heads * (self.key_width + self.value_width) * self.dtype.itemsize


class TokenRun:
    """Consecutive tokens in an extent; a node of the prefix tree holds one.

    Args:
        pool: The pool.
        extent: Where they are; this run counts as one of its users.
        offset: Tokens of the extent before them.
        length: How many they are.
    """

    def __init__(self, pool: KvPool, extent: Extent, offset: int, length: int) -> None:
        self.extent, self.offset, self.length = extent, offset, length
        self._pool = pool

    def __len__(self) -> int:
        return self.length

    @property
    def start(self) -> int:
        """Place of its first token."""
        return self.extent.start + self.offset

    @property
    def nbytes(self) -> int:
        """Bytes of its tokens."""
        return self.length * self._pool.shape.token_bytes

    def part(self, start: int, stop: int) -> TokenRun:
        """Returns a further run over places of the extent, counted from its first token, without copying them."""
        self.extent.users += 1
        return TokenRun(self._pool, self.extent, self.offset + start, stop - start)

    def release(self) -> None:
        """Gives up the places."""
        self._pool.release(self.extent)


class KvPool:
    """A pool of keys and values.

    Attributes:
        keys: `[layers, places, heads, width]`. Places without a token hold finite numbers.
        values: The same for values.

    Args:
        shape: What a token needs.
        size: Places, for a pool of fixed size; None for one that grows when it is full.
    """

    def __init__(self, shape: PoolShape, size: int | None = None) -> None:
        self.shape = shape
        self.evict: Callable[[], bool] = lambda: False
        """Frees places that are kept for later, called when the pool is full; returns whether it did."""
        self._grows = size is None
        places = int(_FIRST_SHARE * _host_bytes() / shape.token_bytes) if size is None else size
        self._allocator = Allocator(places)
        self._fill(self._empty(places))

    @property
    def used_bytes(self) -> int:
        """Bytes of all extents in use."""
        return self._allocator.used * self.shape.token_bytes

    def allocate(self, tokens: int, last: bool = False) -> Extent:
        """Returns an extent of at least `tokens` places.

        Args:
            tokens: The number.
            last: Whether to take it from the end of the pool, see `Allocator`.

        Raises:
            PoolFullError: It has no room although everything that was kept for later is gone.
        """
        while True:
            try:
                return self._allocator.allocate(tokens, last)
            except PoolFullError:
                if self._grows:
                    self._grow(tokens)
                elif not self.evict():
                    raise

    def release(self, extent: Extent) -> None:
        """Takes back one use of an extent."""
        self._allocator.release(extent)

    def copy(self, sources: Sequence[tuple[int, int, int]]) -> None:
        """Copies tokens within the pool.

        Args:
            sources: For each copy its first place, its target's first place and the number of tokens. No target may
                lie in a source.
        """
        if not sources:
            return
        if self.shape.device.type == "cpu":  # whole blocks are faster than a gather
            for states in self._states:
                for start, to, count in sources:
                    states.narrow(1, to, count).copy_(states.narrow(1, start, count))
            return
        starts, targets, counts = numpy.array(sources).T
        within = numpy.arange(counts.sum()) - numpy.repeat(counts.cumsum() - counts, counts)
        source, target = (
            sent(torch.from_numpy(numpy.repeat(firsts, counts) + within), self.shape.device)
            for firsts in (starts, targets)
        )
        most = max(1, _COPIED_BYTES // self.shape.token_bytes)
        for read, written in zip(torch.split(source, most), torch.split(target, most), strict=True):
            for states in self._states:
                states.index_copy_(1, written, states.index_select(1, read))

    def write(self, start: int, keys: Sequence[torch.Tensor], values: Sequence[torch.Tensor]) -> None:
        """Writes tokens from outside the pool.

        Args:
            start: Their first place.
            keys: For each layer `[heads, tokens, width]`.
            values: The same for values.
        """
        stop = start + keys[0].shape[1]
        for layer, (key, value) in enumerate(zip(keys, values, strict=True)):
            self.keys[layer, start:stop] = key.transpose(0, 1)
            self.values[layer, start:stop] = value.transpose(0, 1)

    def _grow(self, tokens: int) -> None:
        before = self._allocator.size
        places = int(max(before * _GROWTH, before + 2 * tokens))
        larger = self._empty(places)
        for states, old in zip(larger, self._states, strict=True):
            states[:, :before] = old
        self._fill(larger)
        self._allocator.grow(places)

    def _empty(self, places: int) -> list[torch.Tensor]:
        """Returns tensors for keys and values: one of all layers' keys and then values, if they are equally wide."""
        one = self.shape
        if one.key_width == one.value_width:
            return [_zeros((2 * one.layers, places, one.heads, one.key_width), one.dtype, one.device)]
        return [
            _zeros((one.layers, places, one.heads, width), one.dtype, one.device)
            for width in (one.key_width, one.value_width)
        ]

    def _fill(self, states: list[torch.Tensor]) -> None:
        self._states = states
        self.keys, self.values = (states[0][: self.shape.layers], states[-1][-self.shape.layers :])


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    size = max(math.prod(shape) * dtype.itemsize, 1)
    if not hasattr(mmap, "MAP_ANONYMOUS"):  # Windows
        return torch.from_numpy(numpy.zeros(size, numpy.uint8)).view(dtype)[: math.prod(shape)].view(shape)
    # Unlike torch, the operating system gives memory at the first use of a page. Large pages would take more of it than
    # is used, and on some virtual machines much longer.
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _RESERVES_NOTHING)
    return torch.frombuffer(memory, dtype=dtype, count=math.prod(shape)).view(shape)


def _host_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
