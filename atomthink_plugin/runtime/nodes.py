"""The nodes of one question's search tree, as the journal gets them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from atomthink_plugin.api import AtomThinkError, Node, Path, Unit


class NodeTable:
    """All nodes that were entered, by their ids.

    Args:
        on_node: Called with each node that is entered or changed.
    """

    def __init__(self, on_node: Callable[[Node], None] | None = None) -> None:
        self._nodes: dict[str, Node] = {}
        self._joints: dict[str, str] = {}
        self._scores: dict[str, float] = {}
        self._unreadable: dict[str, str] = {}
        self._on_node = on_node

    def enter(self, path: Path, unit: Unit, rejected: str | None = None) -> None:
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
            use=step.use.partition("#")[0],
        )
        if (twin := self._nodes.get(node.id)) is not None:
            likelier = max(node, twin, key=_preference)
            node = replace(likelier, multiplicity=node.multiplicity + twin.multiplicity)
        self._nodes[node.id] = node
        self._joints[node.id] = unit.joint
        self._show(node.id)

    def give(self, path: Path, unit: Unit) -> None:
        """Notes a step that the question gives: it is no node, and part of the chain's text."""
        self._joints[path.key] = unit.joint

    def score(self, key: str, value: float) -> None:
        """Notes the scorer's verdict on a node."""
        self._scores[key] = value
        self._show(key)

    def reject(self, key: str, reason: str) -> None:
        """Notes why the scorer gave a node no verdict."""
        self._unreadable[key] = reason
        self._show(key)

    def text(self, path: Path) -> str:
        """Returns a chain as one text: each unit is followed by its joint, but the last one."""
        if unknown := [node.key for node in path.lineage if node.key not in self._joints]:
            raise AtomThinkError(
                f"the search chose a path whose node {unknown[0]} is not in the tree: get paths from expand, rollouts, "
                "ask and write"
            )
        pieces = [piece for node in path.lineage for piece in (node.steps[-1].text, self._joints[node.key])]
        return "".join(pieces[:-1])

    def finished(self) -> tuple[Node, ...]:
        """Returns all nodes, siblings together, in an order that does not depend on who arrived first."""
        return tuple(map(self._whole, sorted(self._nodes.values(), key=lambda node: (node.parent, node.id))))

    def _whole(self, node: Node) -> Node:
        """Returns a node with what the scorer said about it; entering it again does not change that."""
        score = 0.0 if node.id in self._unreadable else self._scores.get(node.id)
        return replace(node, score=score, rejected=self._unreadable.get(node.id, node.rejected))

    def _show(self, key: str) -> None:
        if self._on_node is not None and key in self._nodes:
            self._on_node(self._whole(self._nodes[key]))


def _preference(node: Node) -> tuple[object, ...]:
    """Which of two entries of one node stays: a valid one, a sampled one, then the likelier, then the shorter.

    The rest keeps the choice the same in whatever order they are entered.
    """
    likelihood = -math.inf if node.logprob is None else node.logprob
    return (
        node.rejected is None,
        node.role != "",
        likelihood,
        -node.tokens,
        node.role,
        node.unit,
        node.answer or "",
        node.rejected or "",
    )
