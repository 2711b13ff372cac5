"""The nodes of one question's search tree, as the journal gets them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from atomthink_plugin.api import Node, Path


class NodeTable:
    """All nodes that were entered, by their ids.

    Args:
        on_node: Called with each node that is entered or changed.
    """

    def __init__(self, on_node: Callable[[Node], None] | None = None) -> None:
        self._nodes: dict[str, Node] = {}
        self._on_node = on_node

    def enter(self, path: Path, rejected: str | None) -> None:
        """Adds a node, or what is new about it: rollouts may reach one node by different token ids."""
        assert path.parent is not None
        assert path.step is not None
        step = path.step
        node = Node(
            id=path.key,
            parent=path.parent.key,
            text=step.text,
            score=None,
            logprob=step.logprob,
            tokens=len(step.token_ids),
            multiplicity=step.multiplicity,
            answer=path.answer,
            rejected=rejected,
            unit=step.unit,
            role=step.role,
            use=step.use.rpartition("#")[0],
        )
        if (twin := self._nodes.get(node.id)) is not None:
            likelier = max(node, twin, key=_preference)
            node = replace(likelier, multiplicity=node.multiplicity + twin.multiplicity)
        self._keep(node)

    def score(self, key: str, value: float) -> None:
        """Notes the scorer's verdict on a node; given steps have none."""
        if key in self._nodes:
            self._keep(replace(self._nodes[key], score=value))

    def reject(self, key: str, reason: str) -> None:
        """Notes why a node lost."""
        self._keep(replace(self._nodes[key], rejected=reason))

    def finished(self, scores: Mapping[str, float]) -> tuple[Node, ...]:
        """Returns all nodes, siblings together, in an order that does not depend on who arrived first."""
        nodes = sorted(self._nodes.values(), key=lambda node: (node.parent, node.id))
        return tuple(replace(node, score=scores.get(node.id)) for node in nodes)

    def _keep(self, node: Node) -> None:
        self._nodes[node.id] = node
        if self._on_node is not None:
            self._on_node(node)


def _preference(node: Node) -> tuple[bool, float, int]:
    """Which of two entries of one node stays: a valid one, then the likelier, then the shorter."""
    return node.rejected is None, -math.inf if node.logprob is None else node.logprob, -node.tokens
