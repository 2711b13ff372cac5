"""The status of every node of a finished search, derived from its tree."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal

from atomthink_plugin.api import FURTHER_ROOT, Aggregate, Node, Outcome, Search
from atomthink_plugin.formats.steps import SEPARATOR
from atomthink_plugin.report.node_notes import tree_notes
from atomthink_plugin.searches.annealed_beam import annealed_beam
from atomthink_plugin.searches.beam import beam
from atomthink_plugin.searches.best_of_n import best_of_n
from atomthink_plugin.searches.dvts import dvts
from atomthink_plugin.searches.lookahead import lookahead
from atomthink_plugin.searches.particle_filter import particle_filter
from atomthink_plugin.searches.parts.aggregates import AGGREGATES
from atomthink_plugin.searches.refined_best_of_n import refined_best_of_n
from atomthink_plugin.searches.weighted import weighted

Kind = Literal["chosen", "continued", "finished", "pruned", "rejected", "ended", "side"]
"""The status of a node:

- chosen: on the chosen path
- continued: extended by further steps
- finished: has a final answer
- pruned: ranked below the kept candidates
- rejected: invalid by the format's check
- ended: the last step of a path without a final answer
- side: asked or written outside the chains, and not extended
"""

_BEST_FIRST: Final = ("chosen", "continued", "finished", "ended", "pruned", "rejected", "side")

_FACTORIES: Final[Mapping[str, Callable[..., Search]]] = {
    "annealed_beam": annealed_beam,
    "beam": beam,
    "best_of_n": best_of_n,
    "dvts": dvts,
    "lookahead": lookahead,
    "particle_filter": particle_filter,
    "refined_best_of_n": refined_best_of_n,
    "weighted": weighted,
}
"""Searches whose argument `aggregate` ranks or weights whole paths."""


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """The status of one node.

    Attributes:
        kind: The kind of status.
        depth: Its depth in the tree, from 1. Pruned candidates were pruned after this step.
        rank: Its rank among the candidates of its step, from 1. None if the search does not rank them.
        of: Number of ranked candidates.
        kept: Number of kept candidates.
        value: The value it was ranked by.
    """

    kind: Kind
    depth: int
    rank: int | None = None
    of: int | None = None
    kept: int | None = None
    value: float | None = None


class FinishedTree:
    """A finished search tree with its paths.

    Args:
        outcome: An outcome with its nodes.
    """

    def __init__(self, outcome: Outcome) -> None:
        self.nodes: Mapping[str, Node] = {node.id: node for node in outcome.nodes}
        self.outcome = outcome

    @cached_property
    def children(self) -> Mapping[str, Sequence[Node]]:
        """The nodes by their parent's id. Roots and the steps of a question's history are not nodes."""
        found: dict[str, list[Node]] = {}
        for node in self.nodes.values():
            found.setdefault(node.parent, []).append(node)
        return found

    @cached_property
    def roots(self) -> Mapping[str, Sequence[Node]]:
        """The first nodes of each tree by their root: the chosen path's root first, then the question's root.

        Other trees have the order of the numbers that the search noted in them.
        """
        tops = {key: nodes for key, nodes in self.children.items() if key not in self.nodes}
        chosen = self.nodes[self.chosen[0]].parent if self.chosen else None

        def place(key: str) -> tuple[bool, bool, str, str]:
            noted = " ".join(self.purposes.get(key, {}).values())
            return key != chosen, key.startswith(FURTHER_ROOT), noted, key

        return {key: tops[key] for key in sorted(tops, key=place)}

    @cached_property
    def purposes(self) -> Mapping[str, Mapping[str, str]]:
        """What the search noted about the purpose of each tree, by its root."""
        nodes: dict[str, list[Node]] = {}
        for node in self.nodes.values():
            if node.note:
                nodes.setdefault(self.root(node), []).append(node)
        return {key: tree_notes(noted) for key, noted in nodes.items()}

    @cached_property
    def chosen(self) -> Sequence[str]:
        """Ids along the chosen path, without the steps of the question's history."""
        texts, scores = self.outcome.steps, self.outcome.scores
        for given in range(len(texts)):
            tops = (node for node in self.nodes.values() if node.parent not in self.nodes)
            lines = self._spelled(tops, texts[given:])
            if lines:  # several trees, or a reply outside the chains, may have the same texts
                best = max(lines, key=lambda line: self._agreement(line, scores[given:]))
                return [node.id for node in best]
        return []

    def _spelled(self, nodes: Iterable[Node], texts: Sequence[str]) -> list[list[Node]]:
        """Returns the paths with these texts that begin with one of `nodes`."""
        lines = [[node] for node in nodes if node.text == texts[0]]
        for text in texts[1:]:
            pairs = ((line, child) for line in lines for child in self.children.get(line[-1].id, ()))
            lines = [[*line, child] for line, child in pairs if child.text == text]
        return lines

    def _agreement(self, line: Sequence[Node], scores: Sequence[float | None]) -> tuple[int, bool, int]:
        """Measures how well a path matches the chosen path in the outcome."""
        alike = sum(node.score == score for node, score in zip(line, scores, strict=False))
        return alike, line[-1].answer == self.outcome.answer, sum(node.is_step for node in line)

    @cached_property
    def side_nodes(self) -> frozenset[str]:
        """Ids of nodes that were asked or written outside the chains: not chosen, and followed by no step."""
        extended = set(self.chosen)
        for node in self.nodes.values():
            if node.is_step:
                while (parent := self.nodes.get(node.parent)) is not None and not parent.is_step:
                    extended.add(parent.id)
                    node = parent
        return frozenset(node.id for node in self.nodes.values() if not node.is_step and node.id not in extended)

    @cached_property
    def finished(self) -> Sequence[Node]:
        """The valid nodes with final answers, without nodes outside the chains such as a judge's verdict."""
        ends = (node for node in self.nodes.values() if node.answer is not None and node.rejected is None)
        return [node for node in ends if node.id not in self.side_nodes]

    def extended(self, node: Node) -> bool:
        """Returns whether the search extended `node`."""
        return any(child.id not in self.side_nodes for child in self.children.get(node.id, ()))

    def root(self, node: Node) -> str:
        """Returns the key of the root of `node`, or of the last step of the question's history."""
        return self.lineage(node)[0].parent

    def text(self, line: Sequence[Node]) -> str:
        """Returns a path as one text, with the joints that the chosen path has between units of the same names."""
        joints = [self._joints.get(node.unit, SEPARATOR) for node in line[:-1]]
        return "".join(part for node, joint in zip(line, [*joints, ""], strict=True) for part in (node.text, joint))

    @cached_property
    def _joints(self) -> Mapping[str, str]:
        """The text after a unit, by the unit's name, read from the outcome's text."""
        found: dict[str, str] = {}
        end = 0
        for key, following in zip(self.chosen, self.chosen[1:], strict=False):
            begin = self.outcome.text.find(self.nodes[key].text, end)
            end = begin + len(self.nodes[key].text)
            after = self.outcome.text.find(self.nodes[following].text, end)
            if begin < 0 or after < 0:
                break
            found.setdefault(self.nodes[key].unit, self.outcome.text[end:after])
        return found

    def lineage(self, node: Node) -> Sequence[Node]:
        """The nodes from the first step to `node`."""
        line = [node]
        while (parent := self.nodes.get(line[-1].parent)) is not None:
            line.append(parent)
        return line[::-1]

    def value(self, node: Node, aggregate: Aggregate) -> float | None:
        """Returns the aggregate of the scores up to `node`, None if a score is missing."""
        if aggregate == "last":
            return node.score
        scores = [step.score for step in self.lineage(node)]
        known = [score for score in scores if score is not None]
        return AGGREGATES[aggregate](known) if len(known) == len(scores) else None

    def likelihood(self, node: Node) -> float | None:
        """Returns the mean token probability up to `node`, None if the policy gives none."""
        logprob = self.logprob(node)
        return math.exp(logprob) if math.isfinite(logprob) else None

    def logprob(self, node: Node) -> float:
        """Returns the mean log-probability per token up to `node`, -inf if the policy gives none."""
        line = self.lineage(node)
        total = sum(-math.inf if step.logprob is None else step.logprob for step in line)
        return total / sum(max(step.tokens, 1) for step in line)


def ranked_by(search: Mapping[str, Any]) -> Aggregate | None:
    """Returns the aggregate that a built-in search ranks paths by. None for other searches."""
    if search.get("name") in ("greedy", "swires"):
        return "last"
    aggregate: Aggregate | None = _argument(search, "aggregate") if search.get("name") in _FACTORIES else None
    return aggregate


def _argument(search: Mapping[str, Any], name: str) -> Any:
    """Returns an argument of the search or its default. Settings contain only given arguments."""
    return search.get(name, inspect.signature(_FACTORIES[search["name"]]).parameters[name].default)


def statuses(tree: FinishedTree, search: Mapping[str, Any]) -> dict[str, NodeStatus]:
    """Returns the status of each node, by its id.

    The ranking of built-in searches that keep the best candidates of a step is repeated here. For other searches the
    status follows from the shape of the tree.

    Args:
        tree: The tree.
        search: The search in the journal's settings: `name` and the given arguments.
    """
    chosen = set(tree.chosen)
    ranked = _ranked(tree, search)
    found = {}
    for node in tree.nodes.values():
        depth = len(tree.lineage(node))
        place = ranked.get(node.id)
        kind: Kind = "chosen" if node.id in chosen else _kind(tree, node, place)
        found[node.id] = NodeStatus(kind, depth) if place is None else NodeStatus(kind, depth, *place)
    return found


def preorder(tree: FinishedTree, status: Mapping[str, NodeStatus]) -> list[Node]:
    """Returns all nodes, parents before their children and better nodes first, so that the chosen path comes first."""

    def place(node: Node) -> tuple[int, float, float]:
        likely = -math.inf if node.logprob is None else node.logprob
        return _BEST_FIRST.index(status[node.id].kind), -(node.score or 0.0), -likely

    order: list[Node] = []
    waiting = [node for top in reversed(list(tree.roots.values())) for node in sorted(top, key=place, reverse=True)]
    while waiting:
        order.append(waiting.pop())
        waiting += sorted(tree.children.get(order[-1].id, ()), key=place, reverse=True)
    return order


_Place = tuple[int, int, int, float]
"""Rank, number of ranked candidates, number of kept candidates, value."""


def _kind(tree: FinishedTree, node: Node, place: _Place | None) -> Kind:
    if node.id in tree.side_nodes:
        return "side"
    if node.rejected is not None:
        return "rejected"
    if place is not None and place[0] > place[2]:
        return "pruned"
    if node.answer is not None:
        return "finished"
    return "continued" if tree.extended(node) else "ended"


def _ranked(tree: FinishedTree, search: Mapping[str, Any]) -> dict[str, _Place]:
    """Returns the ranks of all scored candidates of each step, if the search ranks them."""
    aggregate = ranked_by(search)
    if aggregate is None or search["name"] not in ("greedy", "beam"):
        return {}
    keep = 1 if search["name"] == "greedy" else int(_argument(search, "beams"))
    levels: dict[int, list[tuple[float, float, bool, str]]] = {}
    for node in tree.nodes.values():
        value = tree.value(node, aggregate) if node.is_step else None
        if value is not None:
            followed = tree.extended(node) or node.id in tree.chosen  # breaks ties: the search extended this one
            levels.setdefault(len(tree.lineage(node)), []).append((value, tree.logprob(node), followed, node.id))
    places = {}
    for level in levels.values():
        level.sort(key=lambda entry: entry[:3], reverse=True)
        for rank, (value, _, _, key) in enumerate(level, 1):
            places[key] = rank, len(level), min(keep, len(level)), value
    return places
