"""Candidates of our own runs: an lmms-eval output folder with its journal, or a journal alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from atomthink_plugin.api import Node, Outcome
from atomthink_plugin.json_rows import Reject
from atomthink_plugin.report.node_status import FinishedTree
from atomthink_plugin.report.run_reader import RecordedRun, RunQuestion, read
from atomthink_plugin.rollouts.rollout_set import RolloutCandidate, RolloutSet


def run_sets(run: RecordedRun) -> Iterator[tuple[str, RolloutSet] | Reject]:
    """Yields the questions of a run with the candidates in its journal, each with its place.

    Candidates are the rollouts of a search over whole paths, in the order of their samples, else the finished paths of
    the tree, else the chosen path without an answer. A journal alone has no right answers.
    """
    prm, policy = scorer_name(run.settings), str(run.settings.get("policy_weights", ""))
    for question in _with_repeats(run.questions):
        where = f"{run.name}: {question.task}/{question.doc_id}/{question.repeat}"
        outcome = question.outcome
        if outcome is None:
            failed = "it is not in the journal" if question.failed is None else f"it failed: {question.failed}"
            yield Reject(where, failed, {"task": question.task, "doc_id": question.doc_id})
        elif question.images is None:
            yield Reject(where, "its journal was written by a version that keeps no images", {"text": outcome.text})
        else:
            yield where, _set(question, _candidates(outcome, prm), policy)


def _with_repeats(questions: Sequence[RunQuestion]) -> Iterator[RunQuestion]:
    """Yields the questions, each followed by its repeats in the journal: the samples of a run have only the first."""
    folders = dict.fromkeys(question.entry.file.parent for question in questions if question.entry is not None)
    known = {question.id for question in questions}
    repeats: dict[tuple[str, int], list[RunQuestion]] = {}
    for repeat in (one for folder in folders for one in read(folder).questions if one.id not in known):
        repeats.setdefault((repeat.task, repeat.doc_id), []).append(repeat)
    for question in questions:
        yield question
        for repeat in repeats.pop((question.task, question.doc_id), ()):
            yield replace(question, repeat=repeat.repeat, entry=repeat.entry, failed=repeat.failed)


def scorer_name(settings: Mapping[str, Any]) -> str:
    """Returns the name of a run's PRM, for a folder its last part, else of its scorer; empty if the run has none."""
    scorer = settings.get("scorer")
    named = scorer if isinstance(scorer, Mapping) else {}
    prm = str(named.get("prm") or "")
    return (Path(prm).name if Path(prm).is_absolute() else prm) or str(named.get("kind") or "")


def _set(question: RunQuestion, candidates: Sequence[RolloutCandidate], policy: str) -> RolloutSet:
    return RolloutSet(
        id=f"{question.task}/{question.doc_id}",
        question=question.text,
        candidates=tuple(candidates),
        pictures=question.images or (),
        choices=question.options,
        gold=question.target,
        subset=question.task,
        policy=policy,
        record=question.record,
        benchmark=question.benchmark or "",
    )


def _candidates(outcome: Outcome, prm: str) -> list[RolloutCandidate]:
    tree = FinishedTree(outcome)
    if outcome.rollouts:
        ends = [(tree.nodes.get(one.end), one.tokens) for one in outcome.rollouts]
        return [_candidate(tree, end, tokens, prm) for end, tokens in ends]
    if not tree.finished:
        return [RolloutCandidate(outcome.text, outcome.steps or None, outcome.answer)]
    # Nodes of a journal have no order. The id is a digest of the path, so this one does not change.
    finished = sorted((node for node in tree.finished if not tree.extended(node)), key=lambda node: node.id)
    return [_candidate(tree, node, None, prm) for node in finished]


def _candidate(tree: FinishedTree, end: Node | None, tokens: int | None, prm: str) -> RolloutCandidate:
    if end is None:  # a rollout without a valid step
        return RolloutCandidate("", tokens=tokens)
    line = tree.lineage(end)
    steps = [node for node in line if node.is_step]
    scores = tuple(node.score for node in steps if node.score is not None)
    logprobs = [node.logprob for node in steps if node.logprob is not None]
    return RolloutCandidate(
        text=tree.text(line),
        steps=tuple(node.text for node in steps),
        answer=end.answer,
        tokens=sum(node.tokens for node in steps) if tokens is None else tokens,
        logprob=sum(logprobs) if len(logprobs) == len(steps) else None,
        scores={prm: scores} if prm and len(scores) == len(steps) else {},
    )
