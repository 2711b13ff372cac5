"""Keys and values of everything a model has read, kept once for all paths that begin alike.

A radix tree over token ids, as in SGLang's RadixAttention (arXiv 2312.07104): a node holds a run of tokens with
their keys and values, its children continue it. Whatever was read or generated before is found by its ids
alone, whether it came as a prompt or was sampled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import takewhile
from typing import Generic, Protocol, Self, TypeVar

import torch

Static = Mapping[int, tuple[torch.Tensor, torch.Tensor]]
"""Keys and values by layer, `[heads, image tokens, width]`."""


class TokenStates(Protocol):
    """Keys and values of consecutive tokens, wherever they are."""

    def __len__(self) -> int:
        """Returns the number of tokens."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes that they take."""
        ...

    def part(self, start: int, stop: int) -> Self:
        """Returns the states of some of the tokens, which stay valid when these are released."""
        ...

    def release(self) -> None:
        """Gives up what the states take."""
        ...


States = TypeVar("States", bound=TokenStates)


class TensorStates:
    """States in a tensor of their own.

    Args:
        tensor: `[2 * layers, heads, tokens, width]`.
    """

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

    def __len__(self) -> int:
        return int(self.tensor.shape[2])

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor."""
        return self.tensor.nbytes

    def part(self, start: int, stop: int) -> TensorStates:
        """Returns a copy of some of the tokens: a view would keep all of them in memory."""
        return TensorStates(self.tensor[:, :, start:stop].clone())

    def release(self) -> None:
        """Does nothing: a tensor without references is freed."""


@dataclass(eq=False)
class PrefixNode(Generic[States]):
    """Consecutive tokens and their keys and values.

    Attributes:
        ids: Its tokens.
        states: Their keys and values; None for a root, which has no tokens.
        parent: What comes before; None for a root.
        children: What follows, by first token.
        used: When it was last read or written, as a count of uses.
    """

    ids: tuple[int, ...]
    states: States | None
    parent: PrefixNode[States] | None
    children: dict[int, PrefixNode[States]] = field(default_factory=dict)
    used: int = 0


class PrefixTree(Generic[States]):
    """Finds and keeps states by token ids; the least recently used are dropped above a limit.

    Sequences with different images have different roots: the ids of an image's tokens do not identify it.

    Args:
        limit: Bytes of states that are kept between uses.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._roots: dict[str, PrefixNode[States]] = {}
        self._images: dict[str, tuple[int, Static]] = {}
        self._clock = 0
        self.size = 0

    def find(self, root: str, ids: Sequence[int]) -> list[tuple[States, int]]:
        """Returns the states of the longest known beginning of `ids`, in consecutive pieces.

        Returns:
            For each piece its states, and how many of its first tokens belong to the beginning.
        """
        return [(states, count) for node, count in self._walk(root, ids) if (states := node.states) is not None]

    def known(self, root: str, ids: Sequence[int]) -> int:
        """Returns how many of the first `ids` are known, without counting as a use."""
        return sum(count for _, count in self._walk(root, ids, touch=False))

    def describe(self, root: str, shift: int, static: Static) -> None:
        """Keeps what images change in a model beyond the states of their tokens; see `shift` and `static`."""
        if root not in self._images:
            self._images[root] = (shift, static)
            self.size += _bytes(static)

    def shift(self, root: str) -> int:
        """Returns the offset that images add to the positions of the text after them."""
        return self._images[root][0]

    def static(self, root: str) -> Static:
        """Returns the states of layers that see the images alone, by layer."""
        return self._images[root][1]

    def insert(self, root: str, ids: Sequence[int], states: States) -> None:
        """Keeps the states of the last tokens of `ids`; those before must be known or come along.

        Args:
            root: Names the images.
            ids: A sequence from its first token on.
            states: States of its last tokens; the tree takes a part of them, the rest stays with the caller.
        """
        walked = self._walk(root, ids, touch=False)
        known = sum(count for _, count in walked)
        self._clock += 1
        for node, count in walked:
            if count == len(node.ids) or known >= len(ids):  # of a node that is cut, the second part was not used
                node.used = self._clock
        start = len(ids) - len(states)
        if known >= len(ids):
            return
        if known < start:
            raise ValueError(f"tokens {known} to {start} have no states")
        if walked:
            last, count = walked[-1]
            parent = self._split(last, count) if count < len(last.ids) else last
        else:
            parent = self._roots.setdefault(root, PrefixNode((), None, None))
        own = states.part(known - start, len(states))
        new = PrefixNode(tuple(ids[known:]), own, parent, used=self._clock)
        parent.children[new.ids[0]] = new
        self.size += own.nbytes

    def clear(self) -> None:
        """Drops everything."""
        for root in self._roots.values():
            for node in _nodes(root):
                if node.states is not None:
                    node.states.release()
        self._roots.clear()
        self._images.clear()
        self.size = 0

    def shrink(self, limit: int | None = None, held: Callable[[States], bool] = lambda states: False) -> None:
        """Drops the least recently used leaves until the limit is kept.

        Args:
            limit: Bytes, if fewer than the tree's own limit are wanted this time.
            held: Whether something else holds states, so that dropping them frees nothing. They are kept.
        """
        limit = self.limit if limit is None else limit
        if self.size <= limit:
            return
        leaves: list[tuple[int, int, PrefixNode[States]]] = []

        def offer(leaf: PrefixNode[States]) -> None:
            if leaf.states is None or not held(leaf.states):
                heappush(leaves, (leaf.used, id(leaf), leaf))

        for root in self._roots.values():
            for leaf in _leaves(root):
                offer(leaf)
        while self.size > limit and leaves:
            _, _, leaf = heappop(leaves)
            self._drop(leaf)
            if leaf.parent is not None and not leaf.parent.children:  # its parent is a leaf now
                offer(leaf.parent)

    def _walk(self, root: str, ids: Sequence[int], touch: bool = True) -> list[tuple[PrefixNode[States], int]]:
        """Nodes along `ids`, with how many tokens of each agree."""
        self._clock += touch
        node = self._roots.get(root)
        walked: list[tuple[PrefixNode[States], int]] = []
        at = 0
        while node is not None and at < len(ids) and (node := node.children.get(ids[at])) is not None:
            count = common(node.ids, ids[at : at + len(node.ids)])
            node.used = self._clock if touch else node.used
            walked.append((node, count))
            at += count
            if count < len(node.ids):
                break
        return walked

    def _split(self, node: PrefixNode[States], at: int) -> PrefixNode[States]:
        """Cuts a node in two and returns the first part."""
        assert node.parent is not None
        assert node.states is not None
        # Both parts before any link: there may be no memory for the second.
        first, second = node.states.part(0, at), node.states.part(at, len(node.states))
        node.states.release()
        head = PrefixNode(node.ids[:at], first, node.parent, used=self._clock)
        node.parent.children[node.ids[0]] = head
        node.ids, node.states, node.parent = node.ids[at:], second, head
        head.children[node.ids[0]] = node
        return head

    def _drop(self, leaf: PrefixNode[States]) -> None:
        if leaf.states is not None:
            self.size -= leaf.states.nbytes
            leaf.states.release()
        if leaf.parent is not None:
            del leaf.parent.children[leaf.ids[0]]
            return
        (root,) = (name for name, node in self._roots.items() if node is leaf)
        del self._roots[root]
        self.size -= _bytes(self._images.pop(root)[1])


def _bytes(static: Static) -> int:
    return sum(half.nbytes for pair in static.values() for half in pair)


def _nodes(node: PrefixNode[States]) -> Iterator[PrefixNode[States]]:
    yield node
    for child in node.children.values():
        yield from _nodes(child)


def _leaves(node: PrefixNode[States]) -> list[PrefixNode[States]]:
    return [one for one in _nodes(node) if not one.children]


def common(first: Sequence[int], second: Sequence[int]) -> int:
    """Returns how many tokens two sequences have in common at their beginnings."""
    if first == second:  # the usual case, at the speed of C
        return len(first)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))
