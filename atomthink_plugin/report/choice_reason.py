"""One sentence about why a search chose a path, as far as the journal shows it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from atomthink_plugin.answers import group
from atomthink_plugin.api import Aggregate, Node, Outcome
from atomthink_plugin.report.node_notes import pairs_of
from atomthink_plugin.report.node_status import FinishedTree, NodeStatus, ranked_by
from atomthink_plugin.report.noted_reasons import noted_reason


def choice_reason(
    outcome: Outcome, search: Mapping[str, Any], tree: FinishedTree, status: Mapping[str, NodeStatus]
) -> str:
    """Returns the sentence.

    It names a reason only if the recorded scores and votes confirm it.

    Args:
        outcome: The outcome.
        search: The search in the journal's settings.
        tree: The tree of the outcome.
        status: The status of each node.
    """
    return confirmed_reason(outcome, search, tree, status) or _recorded(outcome, _name(search))


def confirmed_reason(
    outcome: Outcome, search: Mapping[str, Any], tree: FinishedTree, status: Mapping[str, NodeStatus]
) -> str | None:
    """Returns the sentence, None if the recorded scores and votes do not confirm a reason. See `choice_reason`."""
    name = _name(search)
    end = tree.nodes[tree.chosen[-1]] if tree.chosen else None
    if outcome.answer is None:
        return _unfinished(outcome, name)
    if (noted := noted_reason(name, outcome, tree)) is not None:
        return f"{name} chose {_quoted(outcome.answer).removesuffix('.')}. {noted}"
    if end is None or end.answer is None:
        return None
    if len(tree.finished) == 1 and end.multiplicity == 1 and _alone(tree):
        return f"{name} had one path, so there was nothing to choose from."
    return _reason(end, name, search, tree, status)


def _name(search: Mapping[str, Any]) -> str:
    return str(search.get("name") or "the search")


def _reason(
    end: Node, name: str, search: Mapping[str, Any], tree: FinishedTree, status: Mapping[str, NodeStatus]
) -> str | None:
    aggregate = ranked_by(search)
    if name in ("adaptive_majority", "complex_vote", "shuffle_vote"):
        if any("vote" in pairs_of(node.note) for node in tree.finished):
            return None  # letters of options in other orders are not the same answers
        return _voted(end, name, None, tree, _voters(name, tree))
    if name == "majority" or (name == "weighted" and aggregate is not None):
        return _voted(end, name, aggregate, tree, tree.finished)
    if name in ("best_of_n", "refined_best_of_n") and aggregate is not None:
        count = sum(node.multiplicity for node in tree.finished)
        return _highest(end, aggregate, tree, tree.finished, f"{name} chose {_named(end)}", f"{count} finished paths")
    if aggregate is not None and name not in ("greedy", "weighted"):
        pool = [node for node in tree.finished if status[node.id].kind in ("chosen", "finished")]
        if name == "dvts":  # it notes the ends of its subtrees
            pool = [node for node in pool if "subtree" in pairs_of(node.note)]
        kept = " that it kept" if name == "beam" else ""
        called = f"{len(pool)} finished paths{kept}"  # identical samples are one path of a beam
        start = f"{name} chose {_named(end)}"
        return _highest(end, aggregate, tree, pool, start, called) or _last_particle(end, name, aggregate, tree, start)
    if name == "greedy":
        steps = [status[key] for key in tree.chosen]
        if all(step.rank == 1 for step in steps):
            return f"greedy took the candidate with the highest score at each of {len(steps)} steps."
    return None


def _highest(
    end: Node, aggregate: Aggregate, tree: FinishedTree, paths: Sequence[Node], start: str, called: str
) -> str | None:
    """Explains a choice by the highest aggregate. None if scores are missing or another path has the highest."""
    values = {node.id: value for node in paths if (value := tree.value(node, aggregate)) is not None}
    if len(values) < len(paths) or end.id not in values or values[end.id] < max(values.values()):
        return None
    best = values[end.id]
    if len(paths) == 1:
        return f"{start}. No other path has a valid final answer. Its {aggregate} score is {_unlike(best)}."
    others = [node for node in paths if not _same(node, end)]
    rival = max(others, key=lambda node: values[node.id], default=None)
    second = math.nan if rival is None else values[rival.id]
    text = f"{start}: the highest {aggregate} score, {_unlike(best, second)}, of {called}"
    if rival is None:
        return f"{text}. All of them have this answer."
    if second == best:
        return f"{text}. {_named(rival)} has the same score, and the search chose the likelier path."
    return f"{text}. The best path to another answer, {_named(rival)}, has {_unlike(second, best)}."


def _last_particle(end: Node, name: str, aggregate: Aggregate, tree: FinishedTree, start: str) -> str | None:
    """Explains a choice among the particles that were left: resampling may have dropped better paths."""
    value = tree.value(end, aggregate)
    if name != "particle_filter" or value is None or not math.isclose(value, tree.outcome.value, abs_tol=1e-6):
        return None
    return f"{start}: the highest {aggregate} score, {_unlike(value)}, of the chains that were left in the end."


def _voters(name: str, tree: FinishedTree) -> list[Node]:
    """Returns the finished paths that voted, with the number of their votes as their multiplicity."""
    if name != "complex_vote":
        return list(tree.finished)
    noted = ((node, pairs_of(node.note).get("votes", "0")) for node in tree.finished)
    return [replace(node, multiplicity=int(votes)) for node, votes in noted if votes.isdecimal() and int(votes)]


def _voted(end: Node, name: str, aggregate: Aggregate | None, tree: FinishedTree, voters: Sequence[Node]) -> str | None:
    """Explains a choice by votes. None if scores are missing or another answer has more votes."""
    votes = [node for node in voters for _ in range(node.multiplicity)]
    weights = [1.0 if aggregate is None else tree.value(node, aggregate) for node in votes]
    known = [weight for weight in weights if weight is not None]
    if len(known) < len(votes):
        return None
    groups = group([node.answer or "" for node in votes])
    own = next((members for members in groups if any(votes[i].id == end.id for i in members)), [])
    rivals = sorted((members for members in groups if members is not own), key=lambda it: -_sum(known, it))
    weight, total = _sum(known, own), sum(known)
    if not total or (rivals and _sum(known, rivals[0]) > weight):
        return None
    if aggregate is None:
        share, shown = f"{len(own)} of {len(votes)} votes", f"{len(rivals[0])}" if rivals else ""
    else:
        share = f"{weight / total:.0%} of all votes, weighted by {aggregate} score ({len(own)} of {len(votes)} paths)"
        shown = _unlike(_sum(known, rivals[0]) / total, weight / total, "%") if rivals else ""
    if not rivals:
        return f"{name} chose {_named(end)}: all {len(votes)} votes."
    rival = _named(votes[rivals[0][0]])
    if _sum(known, rivals[0]) == weight:
        return f"{name} chose {_named(end)}: {share}. {rival} has as many, and the likelier paths decide."
    return f"{name} chose {_named(end)}: {share}. The next answer, {rival}, has {shown}."


def _unfinished(outcome: Outcome, name: str) -> str:
    before = " before the budget was spent" if outcome.stopped == "budget" else ""
    return f"{name} found no path with a final answer{before}, and returned an unfinished path."


def _recorded(outcome: Outcome, name: str) -> str:
    value = f", with a value of {_unlike(outcome.value)}" if outcome.value else ""
    return f"{name} chose this path{value}. The journal does not record the reason."


def _alone(tree: FinishedTree) -> bool:
    """Returns whether the search had no other path, because all other steps were rejected."""
    others = (node for key, node in tree.nodes.items() if key not in tree.chosen and key not in tree.side_nodes)
    return all(node.rejected is not None for node in others)


def _same(one: Node, other: Node) -> bool:
    return len(group([one.answer or "", other.answer or ""])) == 1


def _sum(weights: Sequence[float], members: Sequence[int]) -> float:
    return sum(weights[i] for i in members)


def _unlike(number: float, other: float = math.nan, kind: str = "f") -> str:
    """Formats a number with enough digits to distinguish it from another."""
    text = ""
    for digits in (0, 1, 2) if kind == "%" else (2, 3, 4):
        text = f"{float(f'{number:.4g}'):.{digits}{kind}}"
        if text != f"{float(f'{other:.4g}'):.{digits}{kind}}":
            break
    return text


def _named(node: Node) -> str:
    return _quoted(node.answer or "")


def _quoted(text: str) -> str:
    """Returns an answer for the page, with formulas in delimiters."""
    answer = " ".join(text.split())
    answer = answer if len(answer) <= 60 else f"{answer[:59]}…"
    return rf"\({answer}\)" if ("\\" in answer or "^" in answer) and "$" not in answer else answer
