"""What became of every candidate of a finished search: read from its tree, since the journal holds nodes alone."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal

from atomthink_plugin.api import Aggregate, Node, Outcome, Search
from atomthink_plugin.searches.aggregates import AGGREGATES
from atomthink_plugin.searches.beam import beam
from atomthink_plugin.searches.best_of_n import best_of_n
from atomthink_plugin.searches.weighted import weighted

Kind = Literal["chosen", "continued", "finished", "pruned", "rejected", "ended"]
"""On the chosen path; followed by further steps; concluded; left behind by better ones; dropped by the step check;
the last step of a path without a conclusion."""

_FACTORIES: Final[Mapping[str, Callable[..., Search]]] = {"beam": beam, "best_of_n": best_of_n, "weighted": weighted}


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of one candidate.

    Attributes:
        kind: In one word.
        depth: Which step of its path it is, from 1; pruned ones were pruned after that step.
        rank: Its place among the candidates of that step, from 1; None where the search does not rank them.
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
        outcome: With its nodes.
    """

    def __init__(self, outcome: Outcome) -> None:
        self.nodes: Mapping[str, Node] = {node.id: node for node in outcome.nodes}
        self._outcome = outcome

    @cached_property
    def children(self) -> Mapping[str, Sequence[Node]]:
        """The nodes by their parent's id; the parents of first steps are no nodes."""
        found: dict[str, list[Node]] = {}
        for node in self.nodes.values():
            found.setdefault(node.parent, []).append(node)
        return found

    @cached_property
    def roots(self) -> Sequence[Node]:
        """First steps: of the question, or behind the steps that it gives."""
        return [node for node in self.nodes.values() if node.parent not in self.nodes]

    @cached_property
    def chosen(self) -> Sequence[str]:
        """Ids along the chosen path, as far as they are nodes: steps that the question gives are none."""
        path: list[str] = []
        siblings = self.roots
        for text in self._outcome.steps:
            found = next((node for node in siblings if node.text == text), None)
            if found is not None:
                path.append(found.id)
                siblings = self.children.get(found.id, ())
        return path

    @cached_property
    def finished(self) -> Sequence[Node]:
        """The conclusions that the step check let pass."""
        return [node for node in self.nodes.values() if node.answer is not None and node.rejected is None]

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
    """Returns what a search of ours ranks paths by; None for those that do not, and for others' searches."""
    if search.get("name") == "greedy":
        return "last"
    aggregate: Aggregate | None = _argument(search, "aggregate") if search.get("name") in _FACTORIES else None
    return aggregate


def _argument(search: Mapping[str, Any], name: str) -> Any:
    """An argument as it was given, or the search's own default: settings hold the given ones alone."""
    return search.get(name, inspect.signature(_FACTORIES[search["name"]]).parameters[name].default)


def fates(tree: Tree, search: Mapping[str, Any]) -> dict[str, Fate]:
    """Returns what became of each node, by its id.

    Step-level searches of ours rank all candidates of a step and keep the best: that is done again here. For other
    searches only the tree's own shape tells.

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
        found[node.id] = Fate(kind, depth) if place is None else Fate(kind, depth, *place)
    return found


_Place = tuple[int, int, int, float]
"""Rank, of how many, how many were kept, and what it was ranked by."""


def _kind(tree: Tree, node: Node, place: _Place | None) -> Kind:
    if node.rejected is not None:
        return "rejected"
    if place is not None and place[0] > place[2]:
        return "pruned"
    if node.answer is not None:
        return "finished"
    return "continued" if node.id in tree.children else "ended"


def _ranked(tree: Tree, search: Mapping[str, Any]) -> dict[str, _Place]:
    """The places of all scored candidates at their step, where the search is one that ranks them."""
    aggregate = ranked_by(search)
    if aggregate is None or search["name"] not in ("greedy", "beam"):
        return {}
    keep = 1 if search["name"] == "greedy" else int(_argument(search, "beams"))
    levels: dict[int, list[tuple[float, float, bool, str]]] = {}
    for node in tree.nodes.values():
        value = tree.value(node, aggregate)
        if value is not None:
            followed = node.id in tree.children or node.id in tree.chosen  # the search's own way out of a tie
            levels.setdefault(len(tree.lineage(node)), []).append((value, tree.logprob(node), followed, node.id))
    places = {}
    for level in levels.values():
        level.sort(key=lambda entry: entry[:3], reverse=True)
        for rank, (value, _, _, key) in enumerate(level, 1):
            places[key] = rank, len(level), min(keep, len(level)), value
    return places
