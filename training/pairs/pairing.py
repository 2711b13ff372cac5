"""Pairs from searches: siblings with different scores, and paths to a right and to a wrong answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from atomthink_plugin.answers import equivalent, final_answer
from atomthink_plugin.api import ROOT, Node, Outcome
from atomthink_plugin.report.output_files import seen_from
from atomthink_plugin.training.pairs.journals import Search
from atomthink_plugin.training.pairs.tally import Tally
from atomthink_plugin.training.records import AnsweredQuestion, Chain, Pair, Reject, read_records, relocated


class Tried(NamedTuple):
    """A finished path and whether its answer is right."""

    steps: tuple[str, ...]
    right: bool


@dataclass(frozen=True, slots=True)
class PairLimits:
    """Which pairs are made.

    Attributes:
        margin: The least difference between the scores of two siblings.
        per_prefix: Pairs of siblings at one prefix, those with the largest difference first.
        per_question: Pairs of whole paths of one question.
    """

    margin: float = 0.2
    per_prefix: int = 1
    per_question: int = 4


def read_known(file: Path, out: Path) -> tuple[dict[str, AnsweredQuestion], list[Reject]]:
    """Returns the questions of a JSONL file by id, their images relative to the folder of `out`, and the rejects.

    Raises:
        AtomThinkError: The file cannot be read, or has no question.
    """
    found = read_records(file, AnsweredQuestion, check_images=False)
    return {record.id: relocated(record, file.parent, out) for record in found.records}, list(found.rejects)


def from_journal(
    searches: Iterable[Search], asked: Mapping[str, AnsweredQuestion], limits: PairLimits, tally: Tally
) -> Iterator[Pair]:
    """Yields the pairs of finished searches.

    Args:
        searches: What a journal holds.
        asked: The questions that were searched, for their images and answers.
        limits: Which pairs are made.
        tally: Counts searches, pairs, and unknown questions.
    """
    for where, name, text, outcome in searches:
        about = asked.get(name)
        if about is None:
            tally.aside("searches", [Reject(where, "its question is not in --questions", {"question": name})])
            continue
        tally.counts["searches"] += 1
        common: dict[str, Any] = {"question": text, "images": about.images}
        steps, tried = paths_of(outcome, about.answer)
        left_out = sum(node.rejected is None and node.id not in steps for node in outcome.nodes)
        tally.counts["nodes outside the question's own chains"] += left_out
        for at, (history, better, worse) in enumerate(siblings(outcome.nodes, steps, limits)):
            yield Pair(id=f"{name}/step/{at}", history=history, chosen=(better,), rejected=(worse,), **common)
            tally.counts["pairs of steps"] += 1
        for at, (history, good, bad) in enumerate(contests(tried, limits.per_question)):
            yield Pair(id=f"{name}/path/{at}", history=history, chosen=good, rejected=bad, **common)
            tally.counts["pairs of paths"] += 1


def from_chains(file: Path, out: Path, limits: PairLimits, tally: Tally) -> Iterator[Pair]:
    """Yields pairs of chains of a file that are about one question and whose answers are known: right against wrong.

    Args:
        file: Chains in JSONL, several to a question.
        out: Where the pairs are to be written.
        limits: Which pairs are made.
        tally: Counts chains and pairs, and takes the chains that state no answer or whose right answer is not known.
    """
    found = read_records(file, Chain)
    tally.aside("chains", found.rejects)
    groups: dict[tuple[str, tuple[str, ...]], list[Chain]] = {}
    for chain in found.records:
        if not chain.answer or final_answer(chain.steps[-1]) is None:
            reason = "it states no final answer" if chain.answer else "its right answer is not known"
            where = f"{file.name}, id {chain.id!r}"
            tally.aside("chains", [Reject(where, reason, chain.model_dump(exclude_none=True))])
            continue
        tally.counts["chains"] += 1
        groups.setdefault((chain.question, chain.images), []).append(chain)
    for (question, images), chains in groups.items():
        shown = seen_from(out, file.parent, images)
        tried = [Tried(one.steps, equivalent(final_answer(one.steps[-1]) or "", one.answer)) for one in chains]
        for at, (history, good, bad) in enumerate(contests(tried, limits.per_question)):
            name = f"{chains[0].id}/path/{at}"
            yield Pair(id=name, question=question, images=shown, history=history, chosen=good, rejected=bad)
            tally.counts["pairs of paths"] += 1


def paths_of(outcome: Outcome, answer: str) -> tuple[dict[str, tuple[str, ...]], list[Tried]]:
    """Returns the steps up to each node by its id, and the finished paths if the right answer is known.

    Only chains of sampled steps from the question's own root count. A policy that is trained on a critique or on a text
    that the search wrote would learn to write it as a step, and below another root the prompt is another one.
    """
    steps: dict[str, tuple[str, ...]] = {ROOT: ()}
    waiting: dict[str, list[Node]] = {}
    for node in outcome.nodes:
        if node.rejected is None and node.is_step:
            waiting.setdefault(node.parent, []).append(node)
    reached = [ROOT]
    for parent in reached:
        for node in waiting.get(parent, ()):
            steps[node.id] = (*steps[parent], node.text)
            reached.append(node.id)
    ended = [node for node in outcome.nodes if node.id in steps and node.answer is not None] if answer else []
    return steps, [Tried(steps[node.id], equivalent(node.answer or "", answer)) for node in ended]


def siblings(
    nodes: Sequence[Node], steps: Mapping[str, tuple[str, ...]], limits: PairLimits
) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """Yields history, better step and worse step of siblings that are the same unit and whose scores differ enough."""
    at: dict[tuple[str, str], list[Node]] = {}
    for node in nodes:
        if node.score is not None and node.id in steps and node.parent in steps:
            at.setdefault((node.parent, node.unit), []).append(node)
    least = limits.margin - 1e-9  # 0.5 - 0.45 is a little less than 0.05
    for (parent, _), children in at.items():
        scored = [(child.score or 0.0, child.text) for child in children]
        apart = [(a[0] - b[0], a[1], b[1]) for a in scored for b in scored if a[0] - b[0] >= least]
        apart = [pair for pair in apart if pair[1] != pair[2]]
        for _, better, worse in sorted(apart, key=lambda pair: -pair[0])[: limits.per_prefix]:
            yield steps[parent], better, worse


def contests(tried: Sequence[Tried], count: int) -> Iterator[tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]]:
    """Yields common history, and rest of a right and of a wrong path; every path occurs before one occurs again."""
    right, wrong = (dict.fromkeys(path.steps for path in tried if path.right is wanted) for wanted in (True, False))
    # Where two answers are said to be right, a path may be both right and wrong: then it is neither.
    good, bad = [path for path in right if path not in wrong], [path for path in wrong if path not in right]
    if not good or not bad:
        return
    wanted = min(count, len(good) * len(bad))
    # Diagonals of the table of good and bad paths, so that no cell comes twice.
    cells = [((at + turn) % len(good), at) for turn in range(len(good)) for at in range(len(bad))]
    for first, second in cells[:wanted]:
        better, worse = good[first], bad[second]
        shared = min(common(better, worse), len(better) - 1, len(worse) - 1)
        yield better[:shared], better[shared:], worse[shared:]


def common(first: Sequence[str], second: Sequence[str]) -> int:
    """Returns how many steps two paths have in common before they part."""
    return next(
        (at for at, (one, other) in enumerate(zip(first, second, strict=False)) if one != other),
        min(len(first), len(second)),
    )
