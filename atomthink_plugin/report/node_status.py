"""What became of every node of a finished search, derived from the tree, since the journal records only nodes."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal

from atomthink_plugin.api import FURTHER_ROOT, Aggregate, Node, Outcome, Search
from atomthink_plugin.formats.steps import SEPARATOR
from atomthink_plugin.searches.aggregates import AGGREGATES
from atomthink_plugin.searches.beam import beam
from atomthink_plugin.searches.best_of_n import best_of_n
from atomthink_plugin.searches.weighted import weighted

Kind = Literal["chosen", "continued", "finished", "pruned", "rejected", "ended", "beside"]
"""On the chosen path; extended by further steps; concluded; ranked below the kept ones; rejected by the format's check;
the last step of a path without a conclusion; asked or written beside the chains, and not extended."""

_FACTORIES: Final[Mapping[str, Callable[..., Search]]] = {"beam": beam, "best_of_n": best_of_n, "weighted": weighted}


@dataclass(frozen=True, slots=True)
class Status:
    """What became of one node.

    Attributes:
        kind: In one word.
        depth: Its depth in the tree, from 1; pruned candidates were pruned after this step.
        rank: Its rank among the candidates of that step, from 1; None where the search does not rank them.
        of: How many were ranked.
        kept: How many of them were kept.
        value: What it was ranked by.
    """

    kind: Kind
    depth: int
    rank: int | None = None
    of: int | None = None
    kept: int | None = None
    value: float | None = None


class Tree:
    """A finished search tree with its paths.

    Args:
        outcome: An outcome with its nodes.
    """

    def __init__(self, outcome: Outcome) -> None:
        self.nodes: Mapping[str, Node] = {node.id: node for node in outcome.nodes}
        self.outcome = outcome

    @cached_property
    def children(self) -> Mapping[str, Sequence[Node]]:
        """The nodes by their parent's id. Roots are no nodes, and neither are the steps that a question gives."""
        found: dict[str, list[Node]] = {}
        for node in self.nodes.values():
            found.setdefault(node.parent, []).append(node)
        return found

    @cached_property
    def roots(self) -> Mapping[str, Sequence[Node]]:
        """The first nodes of each tree by their root: the chosen path's root first, then the question's own."""
        tops = {key: nodes for key, nodes in self.children.items() if key not in self.nodes}
        chosen = self.nodes[self.chosen[0]].parent if self.chosen else None
        return dict(sorted(tops.items(), key=lambda top: (top[0] != chosen, top[0].startswith(FURTHER_ROOT), top[0])))

    @cached_property
    def chosen(self) -> Sequence[str]:
        """Ids along the chosen path, without the steps that the question gives, which are no nodes."""
        texts, scores = self.outcome.steps, self.outcome.scores
        for given in range(len(texts)):
            tops = (node for node in self.nodes.values() if node.parent not in self.nodes)
            lines = list(self._spelled(tops, texts[given:]))
            if lines:  # several trees, or a reply to something asked, may have the same texts
                best = max(lines, key=lambda line: self._agreement(line, scores[given:]))
                return [node.id for node in best]
        return []

    def _spelled(self, nodes: Iterable[Node], texts: Sequence[str]) -> Iterator[list[Node]]:
        """Yields the paths that begin with one of `nodes` and have these texts."""
        for node in nodes:
            if node.text != texts[0]:
                continue
            if len(texts) == 1:
                yield [node]
            else:
                yield from ([node, *rest] for rest in self._spelled(self.children.get(node.id, ()), texts[1:]))

    def _agreement(self, line: Sequence[Node], scores: Sequence[float | None]) -> tuple[int, bool, int]:
        """How far a path has what the outcome records of the chosen one."""
        alike = sum(node.score == score for node, score in zip(line, scores, strict=False))
        return alike, line[-1].answer == self.outcome.answer, sum(node.is_step for node in line)

    @cached_property
    def beside(self) -> frozenset[str]:
        """Ids of what was asked or written beside the chains: not chosen, and followed by no step."""
        extended = set(self.chosen)
        for node in self.nodes.values():
            if node.is_step:
                while (parent := self.nodes.get(node.parent)) is not None and not parent.is_step:
                    extended.add(parent.id)
                    node = parent
        return frozenset(node.id for node in self.nodes.values() if not node.is_step and node.id not in extended)

    @cached_property
    def finished(self) -> Sequence[Node]:
        """The valid conclusions, without answers beside the chains, such as a judge's."""
        ends = (node for node in self.nodes.values() if node.answer is not None and node.rejected is None)
        return [node for node in ends if node.id not in self.beside]

    def extended(self, node: Node) -> bool:
        """Returns whether the search went on from `node`."""
        return any(child.id not in self.beside for child in self.children.get(node.id, ()))

    def root(self, node: Node) -> str:
        """Returns the key of the root of `node`, or of the last step that the question gives."""
        return self.lineage(node)[0].parent

    def text(self, line: Sequence[Node]) -> str:
        """Returns a path as one text, with what the chosen path has between units of the same names."""
        joints = [self._joints.get(node.unit, SEPARATOR) for node in line[:-1]]
        return "".join(part for node, joint in zip(line, [*joints, ""], strict=True) for part in (node.text, joint))

    @cached_property
    def _joints(self) -> Mapping[str, str]:
        """What follows a unit, by its name: formats define it, and of them only the outcome's text is recorded."""
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
        """Returns the aggregate of the scores up to `node`; None where one that it needs is missing."""
        if aggregate == "last":
            return node.score
        scores = [step.score for step in self.lineage(node)]
        known = [score for score in scores if score is not None]
        return AGGREGATES[aggregate](known) if len(known) == len(scores) else None

    def likelihood(self, node: Node) -> float | None:
        """Returns the mean probability of a token up to `node`; None where the policy gives none."""
        logprob = self.logprob(node)
        return math.exp(logprob) if math.isfinite(logprob) else None

    def logprob(self, node: Node) -> float:
        """Returns the mean log-probability per token up to `node`; -inf where the policy gives none."""
        line = self.lineage(node)
        total = sum(-math.inf if step.logprob is None else step.logprob for step in line)
        return total / sum(max(step.tokens, 1) for step in line)


def ranked_by(search: Mapping[str, Any]) -> Aggregate | None:
    """Returns what a built-in search ranks paths by; None for those that rank none, and for searches of plugins."""
    if search.get("name") == "greedy":
        return "last"
    aggregate: Aggregate | None = _argument(search, "aggregate") if search.get("name") in _FACTORIES else None
    return aggregate


def _argument(search: Mapping[str, Any], name: str) -> Any:
    """An argument as it was given, or the search's default: settings hold only what was given."""
    return search.get(name, inspect.signature(_FACTORIES[search["name"]]).parameters[name].default)


def statuses(tree: Tree, search: Mapping[str, Any]) -> dict[str, Status]:
    """Returns what became of each node, by its id.

    The built-in searches that rank all candidates of a step and keep the best are repeated here. For other searches
    the shape of the tree decides.

    Args:
        tree: The tree.
        search: The search as the journal's settings name it: `name` and the arguments that were given.
    """
    chosen = set(tree.chosen)
    ranked = _ranked(tree, search)
    found = {}
    for node in tree.nodes.values():
        depth = len(tree.lineage(node))
        place = ranked.get(node.id)
        kind: Kind = "chosen" if node.id in chosen else _kind(tree, node, place)
        found[node.id] = Status(kind, depth) if place is None else Status(kind, depth, *place)
    return found


_Place = tuple[int, int, int, float]
"""Rank, of how many, how many were kept, and what it was ranked by."""


def _kind(tree: Tree, node: Node, place: _Place | None) -> Kind:
    if node.id in tree.beside:
        return "beside"
    if node.rejected is not None:
        return "rejected"
    if place is not None and place[0] > place[2]:
        return "pruned"
    if node.answer is not None:
        return "finished"
    return "continued" if tree.extended(node) else "ended"


def _ranked(tree: Tree, search: Mapping[str, Any]) -> dict[str, _Place]:
    """The places of all scored candidates at their step, where the search is one that ranks them."""
    aggregate = ranked_by(search)
    if aggregate is None or search["name"] not in ("greedy", "beam"):
        return {}
    keep = 1 if search["name"] == "greedy" else int(_argument(search, "beams"))
    levels: dict[int, list[tuple[float, float, bool, str]]] = {}
    for node in tree.nodes.values():
        value = tree.value(node, aggregate) if node.is_step else None
        if value is not None:
            followed = tree.extended(node) or node.id in tree.chosen  # among equals, what the search went on from
            levels.setdefault(len(tree.lineage(node)), []).append((value, tree.logprob(node), followed, node.id))
    places = {}
    for level in levels.values():
        level.sort(key=lambda entry: entry[:3], reverse=True)
        for rank, (value, _, _, key) in enumerate(level, 1):
            places[key] = rank, len(level), min(keep, len(level)), value
    return places
