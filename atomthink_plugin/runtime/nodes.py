"""The nodes of one question's search tree, as they are written to the journal."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from atomthink_plugin.api import AtomThinkError, Node, Path, Unit


class NodeTable:
    """The nodes of a tree, by their ids.

    Args:
        on_node: Called with each node that is added or changed.
    """

    def __init__(self, on_node: Callable[[Node], None] | None = None) -> None:
        self._nodes: dict[str, Node] = {}
        self._joints: dict[str, str] = {}
        self._scores: dict[str, float] = {}
        self._unreadable: dict[str, str] = {}
        self._notes: dict[str, str] = {}
        self._reasons: dict[str, str] = {}
        self._on_node = on_node

    def enter(self, path: Path, unit: Unit, rejected: str | None = None) -> None:
        """Adds a node, or merges it with the same node: rollouts may reach one text by different token ids."""
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
        """Adds a step of the question's history. It is part of the chain's text and not a node."""
        self._joints[path.key] = unit.joint

    def score(self, key: str, value: float, reason: str = "") -> None:
        """Records the score of a node, with the critique of a generative scorer."""
        self._scores[key] = value
        self.explain(key, reason)

    def explain(self, key: str, reason: str) -> None:
        """Records a critique of a node, or why it has no score."""
        if reason:
            self._reasons[key] = reason
        self._show(key)

    def reject(self, key: str, reason: str) -> None:
        """Records why a node could not be scored."""
        self._unreadable[key] = reason
        self._show(key)

    def note(self, path: Path, text: str) -> None:
        """Records the search's note about a node."""
        if path.key not in self._nodes:
            raise AtomThinkError(f"the search notes {text!r:.80} about {path.key}, which is not a node of the tree")
        self._notes[path.key] = text
        self._show(path.key)

    def text(self, path: Path) -> str:
        """Returns a chain as one text: the units, with their joints between them."""
        if unknown := [node.key for node in path.lineage if node.key not in self._joints]:
            raise AtomThinkError(
                f"the search chose a path whose node {unknown[0]} is not in the tree. Get paths from expand, rollouts, "
                "ask and write"
            )
        pieces = [piece for node in path.lineage for piece in (node.steps[-1].text, self._joints[node.key])]
        return "".join(pieces[:-1])

    def finished(self) -> tuple[Node, ...]:
        """Returns all nodes, siblings together, in an order that does not depend on timing."""
        return tuple(map(self._whole, sorted(self._nodes.values(), key=lambda node: (node.parent, node.id))))

    def _whole(self, node: Node) -> Node:
        """Returns a node with its score, the scorer's reasons, and its note."""
        score = 0.0 if node.id in self._unreadable else self._scores.get(node.id)
        rejected = self._unreadable.get(node.id, node.rejected)
        note, reason = self._notes.get(node.id, ""), self._reasons.get(node.id, "")
        return replace(node, score=score, rejected=rejected, note=note, reason=reason)

    def _show(self, key: str) -> None:
        if self._on_node is not None and key in self._nodes:
            self._on_node(self._whole(self._nodes[key]))


def _preference(node: Node) -> tuple[object, ...]:
    """Orders two versions of one node: valid before invalid, sampled before written, likelier, shorter.

    The other fields make the choice independent of the order in which they are added.
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
