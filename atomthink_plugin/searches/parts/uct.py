"""Upper confidence bounds for trees: the statistics of a Monte-Carlo tree search.

Source: UCT (Kocsis and Szepesvari, 2006).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from atomthink_plugin.api import Path

Ranked = tuple[float, Path]
"""A simulated chain with its reward."""


@dataclass(slots=True, eq=False)
class UctNode:
    """A node of the search.

    Attributes:
        path: The chain up to it.
        parent: The node before it, None for the root.
        children: The nodes after it; None before its expansion, empty if it cannot be extended.
        visits: Simulations that passed it.
        total: The sum of their rewards.
        best: The best chain simulated through it.
        exhausted: Whether no further chain can be found through it.
    """

    path: Path
    parent: UctNode | None = None
    children: list[UctNode] | None = None
    visits: int = 0
    total: float = 0.0
    best: Ranked | None = None
    exhausted: bool = False

    @property
    def mean(self) -> float:
        """The mean reward, 0.0 before the first visit."""
        return self.total / self.visits if self.visits else 0.0

    def selected(self, exploration: float) -> UctNode:
        """Returns the node without children that the next simulation starts from."""
        node = self
        while node.children:
            new = (child for child in node.children if not child.visits)
            node = next(new, None) or max(node.children, key=lambda child: child._bound(exploration))
        return node

    def most_visited(self) -> UctNode:
        """Returns the end of the most visited path; ties go to the higher mean reward, then to the first child."""
        node = self
        while visited := [child for child in node.children or () if child.visits]:
            node = max(visited, key=lambda child: (child.visits, child.mean))
        return node

    def offer(self, reward: float, chain: Path) -> None:
        """Keeps a chain simulated through this node, here and above, where it is the best one so far."""
        for node in self._upwards():
            node.best = max(node.best or (reward, chain), (reward, chain), key=_rank)

    def back_up(self, reward: float) -> None:
        """Counts a simulation that ended below this node."""
        for node in self._upwards():
            node.visits += 1
            node.total += reward
            open_children = node.children is None or any(not child.exhausted for child in node.children)
            node.exhausted = node.path.final or not open_children

    def below(self) -> Iterator[UctNode]:
        """Yields all nodes below this one."""
        for child in self.children or ():
            yield child
            yield from child.below()

    def _bound(self, exploration: float) -> float:
        assert self.parent is not None
        return self.mean + exploration * math.sqrt(math.log(self.parent.visits) / self.visits)

    def _upwards(self) -> Iterator[UctNode]:
        node: UctNode | None = self
        while node is not None:
            yield node
            node = node.parent


def _rank(ranked: Ranked) -> tuple[bool, float, float]:
    """Chains with an answer rank before others, then the reward decides, then the likelihood."""
    reward, path = ranked
    return path.final, reward, path.logprob
