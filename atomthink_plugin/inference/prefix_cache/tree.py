"""Keys and values of everything a model has read, kept once for all paths that begin alike.

A radix tree over token ids, as in SGLang's RadixAttention (arXiv 2312.07104): a node holds a run of tokens with
their keys and values, its children continue it. Whatever was read or generated before is found by its ids
alone, whether it came as a prompt or was sampled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import takewhile

import torch

Static = Mapping[int, tuple[torch.Tensor, torch.Tensor]]
"""Keys and values by layer, `[heads, image tokens, width]`."""


@dataclass(eq=False)
class PrefixNode:
    """Consecutive tokens and their keys and values.

    Attributes:
        ids: Its tokens.
        states: Their keys and values, `[2 * layers, heads, tokens, width]`.
        parent: What comes before; None for a root.
        children: What follows, by first token.
        used: When it was last read or written, as a count of uses.
    """

    ids: tuple[int, ...]
    states: torch.Tensor
    parent: PrefixNode | None
    children: dict[int, PrefixNode] = field(default_factory=dict)
    used: int = 0


class PrefixTree:
    """Finds and keeps states by token ids; the least recently used are dropped above a limit.

    Sequences with different images have different roots: the ids of an image's tokens do not identify it.

    Args:
        limit: Bytes of states that are kept between uses.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._roots: dict[str, PrefixNode] = {}
        self._images: dict[str, tuple[int, Static]] = {}
        self._clock = 0
        self.size = 0

    def find(self, root: str, ids: Sequence[int]) -> list[torch.Tensor]:
        """Returns the states of the longest known beginning of `ids`, in consecutive pieces."""
        return [node.states[:, :, :count] for node, count in self._walk(root, ids)]

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

    def insert(self, root: str, ids: Sequence[int], states: torch.Tensor) -> None:
        """Keeps the states of the last tokens of `ids`; those before must be known or come along.

        Args:
            root: Names the images.
            ids: A sequence from its first token on.
            states: States of its last tokens, `[2 * layers, heads, tokens, width]`.
        """
        walked = self._walk(root, ids, touch=False)
        known = sum(count for _, count in walked)
        self._clock += 1
        for node, count in walked:
            if count == len(node.ids) or known >= len(ids):  # of a node that is cut, the second part was not used
                node.used = self._clock
        start = len(ids) - states.shape[2]
        if known >= len(ids):
            return
        if known < start:
            raise ValueError(f"tokens {known} to {start} have no states")
        if walked:
            last, count = walked[-1]
            parent = self._split(last, count) if count < len(last.ids) else last
        else:
            # A view, even of nothing, would keep the states of the whole batch alive.
            parent = self._roots.setdefault(root, PrefixNode((), states[:, :, :0].clone(), None))
        new = PrefixNode(tuple(ids[known:]), states[:, :, known - start :].clone(), parent, used=self._clock)
        parent.children[new.ids[0]] = new
        self.size += new.states.nbytes

    def clear(self) -> None:
        """Drops everything."""
        self._roots.clear()
        self._images.clear()
        self.size = 0

    def shrink(self) -> None:
        """Drops the least recently used leaves until the limit is kept."""
        if self.size <= self._limit:
            return
        leaves = [(leaf.used, id(leaf), leaf) for root in self._roots.values() for leaf in _leaves(root)]
        heapify(leaves)
        while self.size > self._limit and leaves:
            _, _, leaf = heappop(leaves)
            self._drop(leaf)
            if leaf.parent is not None and not leaf.parent.children:  # its parent is a leaf now
                heappush(leaves, (leaf.parent.used, id(leaf.parent), leaf.parent))

    def _walk(self, root: str, ids: Sequence[int], touch: bool = True) -> list[tuple[PrefixNode, int]]:
        """Nodes along `ids`, with how many tokens of each agree."""
        self._clock += touch
        node = self._roots.get(root)
        walked: list[tuple[PrefixNode, int]] = []
        at = 0
        while node is not None and at < len(ids) and (node := node.children.get(ids[at])) is not None:
            count = common(node.ids, ids[at : at + len(node.ids)])
            node.used = self._clock if touch else node.used
            walked.append((node, count))
            at += count
            if count < len(node.ids):
                break
        return walked

    def _split(self, node: PrefixNode, at: int) -> PrefixNode:
        """Cuts a node in two and returns the first part; each owns its memory."""
        assert node.parent is not None
        # Both copies before any link: there may be no memory for the second.
        first, second = node.states[:, :, :at].clone(), node.states[:, :, at:].clone()
        head = PrefixNode(node.ids[:at], first, node.parent, used=self._clock)
        node.parent.children[node.ids[0]] = head
        node.ids, node.states, node.parent = node.ids[at:], second, head
        head.children[node.ids[0]] = node
        return head

    def _drop(self, leaf: PrefixNode) -> None:
        self.size -= leaf.states.nbytes
        if leaf.parent is not None:
            del leaf.parent.children[leaf.ids[0]]
            return
        (root,) = (name for name, node in self._roots.items() if node is leaf)
        del self._roots[root]
        self.size -= _bytes(self._images.pop(root)[1])


def _bytes(static: Static) -> int:
    return sum(half.nbytes for pair in static.values() for half in pair)


def _leaves(node: PrefixNode) -> list[PrefixNode]:
    if not node.children:
        return [node]
    return [leaf for child in node.children.values() for leaf in _leaves(child)]


def common(first: Sequence[int], second: Sequence[int]) -> int:
    """Returns how many tokens two sequences have in common at their beginnings."""
    if first == second:  # the usual case, at the speed of C
        return len(first)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))
