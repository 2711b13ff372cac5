"""The data of a question in the page: an entry of the list, and the details of the open question."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from atomthink_plugin.answers import equivalent, group
from atomthink_plugin.api import FURTHER_ROOT, Node, Outcome
from atomthink_plugin.report.choice_reason import choice_reason
from atomthink_plugin.report.node_status import FinishedTree, NodeStatus, preorder, ranked_by, statuses
from atomthink_plugin.report.run_reader import RecordedRun, RunQuestion
from atomthink_plugin.report.tree_names import readable_note, tree_names
from atomthink_plugin.searches.parts.aggregates import AGGREGATES

_LISTED: Final = 160
"""Characters of a question's text in the list."""

_VOTES: Final = ("majority", "weighted", "adaptive_majority", "complex_vote", "shuffle_vote")
"""Searches whose value is a share of votes."""

_SEARCHED: Final = 4000
"""Characters of each question's text and replies that the text search covers."""


@dataclass(frozen=True, slots=True)
class QuestionAnswers:
    """One question of one or two runs.

    Attributes:
        answers: By run, None if the run did not ask the question.
    """

    answers: tuple[RunQuestion | None, ...]

    @property
    def any(self) -> RunQuestion:
        """The answer of the first run that asked it."""
        return next(answer for answer in self.answers if answer is not None)

    @property
    def alike(self) -> bool:
        """Whether all runs asked the same question, and not only the same index of a task."""
        given = [answer for answer in self.answers if answer is not None]
        targets = {answer.target for answer in given if answer.target is not None}
        texts = {answer.text for answer in given if answer.text}
        return len(targets) < 2 and (len(texts) < 2 or bool(targets))


def merge_questions(runs: Sequence[RecordedRun]) -> list[QuestionAnswers]:
    """Returns the questions of all runs: those of the first run in its order, then the others."""
    found: dict[tuple[str, int, int], list[RunQuestion | None]] = {}
    for i, run in enumerate(runs):
        for question in run.questions:
            found.setdefault(question.id, [None] * len(runs))[i] = question
    return [QuestionAnswers(tuple(answers)) for answers in found.values()]


def verdict(answer: RunQuestion) -> str:
    """Returns `right`, `wrong`, `failed`, or `unscored` without a verdict."""
    if answer.failed is not None:
        return "failed"
    return {True: "right", False: "wrong", None: "unscored"}[answer.correct]


def list_entry(question: QuestionAnswers, text: str) -> dict[str, Any]:
    """Returns the data that the list shows and filters by.

    Args:
        question: The question.
        text: Its text, without instructions that other questions share.
    """
    one = question.any
    runs = [a and _brief(a) for a in question.answers]
    return _known(
        task=one.task,
        doc=one.doc_id,
        repeat=one.repeat or None,
        text=" ".join(text[: 2 * _LISTED].split())[:_LISTED],
        groups={name: list(values) for name, values in one.groups.items()} or None,
        runs=runs,
    )


def _brief(answer: RunQuestion) -> dict[str, Any]:
    scores = () if answer.outcome is None else answer.outcome.scores
    lowest = min((score for score in scores if score is not None), default=None)
    return _known(verdict=verdict(answer), stopped=answer.stopped, tokens=answer.tokens, lowest=_rounded(lowest))


def search_text(question: QuestionAnswers) -> str:
    """Returns the text that the search field searches."""
    one = question.any
    parts = [f"{one.task}/{one.doc_id}", one.text[:_SEARCHED], *one.options, one.target or ""]
    for answer in question.answers:
        if answer is not None:
            parts += [answer.reply[:_SEARCHED], answer.extracted or "", answer.failed or "", answer.rule or ""]
    return "\n".join(part for part in parts if part)


def question_details(question: QuestionAnswers, searches: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the data of the open question.

    Args:
        question: The question.
        searches: The search of each run in its journal's settings.
    """
    one = question.any
    pairs = zip(question.answers, searches, strict=True)
    runs = [answer and _answer(answer, search) for answer, search in pairs]
    return _known(text=one.text, options=list(one.options) or None, target=one.target, runs=runs)


def _answer(answer: RunQuestion, search: Mapping[str, Any]) -> dict[str, Any]:
    outcome = answer.outcome
    tree = FinishedTree(outcome) if outcome is not None and outcome.nodes else None
    status = statuses(tree, search) if tree is not None else {}
    return _known(
        extracted=answer.extracted,
        rule=answer.rule,
        failed=answer.failed,
        tokens=answer.tokens,
        judged=(answer.entry.usage.judged or None) if answer.entry is not None else None,
        policy_calls=answer.policy_calls,
        prm_calls=answer.prm_calls,
        seconds=_rounded(answer.seconds),
        stopped=answer.stopped,
        reply=answer.reply or None,
        won=_won(outcome, search) if outcome is not None else None,
        by=ranked_by(search),
        why=choice_reason(outcome, search, tree, status) if outcome is not None and tree is not None else None,
        tree=_drawn(tree, status, search, answer) if tree is not None else None,
    )


def _won(outcome: Outcome, search: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns the value of the chosen path, None for searches without a ranking and for a path without steps."""
    if not outcome.steps:
        return None
    if search.get("name") in _VOTES:
        by = "share of votes"
    elif search.get("name") == "mcts":
        by = "reward"
    elif (aggregate := ranked_by(search)) is not None:
        by = f"{aggregate} score"
    else:
        return None
    return {"by": by, "value": _rounded(outcome.value)}


def _drawn(
    tree: FinishedTree, status: Mapping[str, NodeStatus], search: Mapping[str, Any], answered: RunQuestion
) -> dict[str, Any]:
    """Returns the nodes, parents before children and better nodes first, and the finished paths."""
    order = preorder(tree, status)
    numbers = {node.id: number for number, node in enumerate(order)}
    roots = {key: -1 - number for number, key in enumerate(tree.roots)}
    nodes = [
        _known(
            **_node(node, (numbers | roots)[node.parent], status[node.id]),
            note=readable_note(node.note, tree) if node.note else None,
            critique=node.reason or None,
        )
        for node in order
    ]
    names = list(tree_names(tree, search)) if len(roots) > 1 else None
    return _known(nodes=nodes, finished=_finished(tree, numbers, search, answered), roots=names)


def _node(node: Node, parent: int, status: NodeStatus) -> dict[str, Any]:
    """Returns one node. Its parent is a node's index, or -1, -2, ... for the first, second, ... root."""
    rank = {"place": status.rank, "of": status.of, "kept": status.kept, "value": _rounded(status.value)}
    sampled = node.role != ""
    return _known(
        parent=parent,
        depth=status.depth,
        kind=status.kind,
        text=node.text,
        score=_rounded(node.score),
        probability=_rounded(math.exp(node.logprob / max(node.tokens, 1)))
        if sampled and node.logprob is not None
        else None,
        tokens=node.tokens,
        times=node.multiplicity if node.multiplicity > 1 else None,
        answer=node.answer,
        reason=node.rejected,
        rank=rank if status.rank is not None else None,
        unit=node.unit if node.unit != "step" else None,
        role=node.role if node.role != "policy" else None,
        use=node.use or None,
    )


def _finished(
    tree: FinishedTree, numbers: Mapping[str, int], search: Mapping[str, Any], answered: RunQuestion
) -> list[dict[str, Any]]:
    """Returns the finished paths with their aggregates and the group of their answer.

    The chosen path is first. The others follow by the votes or scores that the search decides by.
    """
    groups, right = _grouped(tree, answered)
    paths = [
        _known(
            node=numbers[node.id],
            votes=node.multiplicity,
            group=groups[node.id],
            right=node.id in right or None,
            chosen=node.id in tree.chosen[-1:] or None,
            likelihood=_rounded(tree.likelihood(node)),
            **{name: _rounded(tree.value(node, name)) for name in AGGREGATES},
        )
        for node in tree.finished
    ]
    return sorted(paths, key=_deciding(paths, search), reverse=True)


def _grouped(tree: FinishedTree, answered: RunQuestion) -> tuple[dict[str, int], set[str]]:
    """Returns the group of each finished node's answer, and the nodes whose answer equals the target.

    A further root may have the options of the question in another order, so that its letters mean other options. Its
    answers then have separate groups, and only the chosen answer is compared with the target, as in the outcome.
    """
    target = answered.target
    roots: dict[str, list[Node]] = {}
    for node in tree.finished:
        key = tree.root(node)
        roots.setdefault(key if answered.options and key.startswith(FURTHER_ROOT) else "", []).append(node)
    groups: dict[str, int] = {}
    right: set[str] = set()
    count = 0
    for root, nodes in roots.items():
        found = group([*(node.answer or "" for node in nodes), *([] if target is None or root else [target])])
        for number, members in enumerate(found, count):
            own = [nodes[i].id for i in members if i < len(nodes)]
            groups |= dict.fromkeys(own, number)
            right.update(own if len(own) < len(members) else ())
        count += len(found)
    stated = tree.outcome.answer
    if target is not None and stated is not None and equivalent(stated, target):
        ends = (tree.nodes[key] for key in tree.chosen[-1:] if key in groups)
        right.update(end.id for end in ends if end.answer != stated or tree.root(end).startswith(FURTHER_ROOT))
    return groups, right


def _deciding(
    paths: Sequence[Mapping[str, Any]], search: Mapping[str, Any]
) -> Callable[[Mapping[str, Any]], tuple[float, ...]]:
    """Returns the sort key of finished paths. For searches of plugins it uses votes."""
    by = ranked_by(search)
    scored = by is not None and search.get("name") != "weighted"
    chosen = next((path["group"] for path in paths if "chosen" in path), None)
    votes: dict[int, float] = {}
    for path in paths:
        weight = 1.0 if by is None else path.get(by, 0.0)
        votes[path["group"]] = votes.get(path["group"], 0.0) + path["votes"] * weight

    def key(path: Mapping[str, Any]) -> tuple[float, ...]:
        first, score = float("chosen" in path), path.get(by or "likelihood", 0.0)
        if scored:
            return first, score
        return float(path["group"] == chosen), votes[path["group"]], -path["group"], first, score

    return key


def _rounded(number: float | None) -> float | None:
    """Rounds to four digits, which keeps the page small. JSON has no infinity."""
    return None if number is None or not math.isfinite(number) else float(f"{number:.4g}")


def _known(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
