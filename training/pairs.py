"""`atomthink pairs`: preference pairs from the journals of searches, from chains, or from a new search.

There are pairs of two kinds: siblings of a search tree whose scores differ, and the ends of two paths, one to a right
answer and one to a wrong one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import chain as chained
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

from atomthink_plugin.answers import equivalent, final_answer
from atomthink_plugin.api import ROOT, AtomThinkError, Node, Outcome
from atomthink_plugin.append_log import DamagedLine
from atomthink_plugin.json_rows import Reject, json_rows
from atomthink_plugin.named_models import plan_for
from atomthink_plugin.runtime.build import build, open_journal
from atomthink_plugin.runtime.journal_reader import JournalEntry, journals_in, rank_files, read_entries
from atomthink_plugin.training.records import (
    AnsweredQuestion,
    Chain,
    Pair,
    read_records,
    relocated,
    sibling_file,
    write_records,
    write_rejects,
)

Steps = tuple[str, ...]


class FinishedPath(NamedTuple):
    """The steps of a path that states an answer, and whether the answer is right."""

    steps: Steps
    right: bool


@dataclass(frozen=True, slots=True)
class PairLimits:
    """Which pairs are made.

    Attributes:
        margin: The least difference between the scores of two siblings.
        per_prefix: The most pairs of siblings after one prefix; those with the largest differences are taken.
        per_question: The most pairs of whole paths of one question.
    """

    margin: float = 0.2
    per_prefix: int = 1
    per_question: int = 4


@dataclass(frozen=True, slots=True)
class PairCounts:
    """How many questions, searches and chains were read and rejected, and how many pairs of each kind were made.

    What is rejected counts as read. `made` also counts what was left out on purpose.
    """

    read: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    made: Counter[str] = field(default_factory=Counter)
    rejects: list[Reject] = field(default_factory=list)

    def reject(self, kind: str, rejects: Sequence[Reject]) -> None:
        """Counts things of a kind as read and rejected."""
        self.rejects.extend(rejects)
        self.read[kind] += len(rejects)
        self.rejected[kind] += len(rejects)

    def pairs(
        self, name: str, kind: str, found: Iterable[tuple[Steps, Steps, Steps]], question: str, images: Sequence[str]
    ) -> Iterator[Pair]:
        """Yields pairs of a kind, given their histories, chosen and rejected continuations, and counts them."""
        for at, (history, chosen, rejected) in enumerate(found):
            self.made[f"pairs of {kind}s"] += 1
            yield Pair(
                id=f"{name}/{kind}/{at}",
                question=question,
                images=tuple(images),
                history=history,
                chosen=chosen,
                rejected=rejected,
            )


def make_pairs(
    sources: Sequence[Path],
    out: Path,
    limits: PairLimits,
    *,
    questions: Path | None = None,
    model: str | None = None,
    model_args: Mapping[str, Any] | None = None,
) -> None:
    """Writes pairs and rejects and prints their counts.

    The arguments are those of `atomthink pairs`.

    Raises:
        AtomThinkError: A file, the model or one of its arguments cannot be used, or there is no pair.
    """
    if model is not None:
        if questions is None:
            raise AtomThinkError("`--model` needs questions to search: name them with `--questions`")
        sources = [*sources, _search(model, model_args or {}, questions, out)]
    if not sources:
        raise AtomThinkError("no source: name a journal's folder or a file of chains, or search with `--model`")
    counts = PairCounts()
    known: dict[str, AnsweredQuestion] = {}
    parts: list[Iterator[Pair]] = []
    for source in sources:
        files = journal_files(source)
        if not files:
            parts.append(pairs_of_chains(source, out, limits, counts))
            continue
        if questions is None:
            raise AtomThinkError(f"{source} is a journal, which has no images: name its questions with `--questions`")
        if not known:
            found = read_records(questions, AnsweredQuestion, check_images=False)
            counts.reject("questions", found.rejects)
            counts.read["questions"] += len(found)
            known = {record.id: relocated(record, found.folder, out) for record in found.records}
        parts.append(pairs_of_journal(files, known, limits, counts))
    written = write_records(out, _unique(chained(*parts), counts))
    rejects = sibling_file(out, "rejects.jsonl")
    write_rejects(rejects, counts.rejects)
    for kind, count in (+counts.read).items():  # `+` leaves zeros out
        print(f"{kind}: {count} read, {counts.rejected[kind]} rejected")
    for kind, count in (+counts.made).items():
        print(f"{kind}: {count}")
    if not written:
        raise AtomThinkError(f"{', '.join(map(str, sources))}: no pair; lower `--margin`, or search more widely")
    print(f"{written} pairs: {out}\n{len(counts.rejects)} rejects: {rejects}")
    print(f"next: atomthink train dpo RECIPE.yaml --data {out}")


def _search(model: str, typed: Mapping[str, Any], questions: Path, out: Path) -> Path:
    """Searches all questions of a file and returns the folder of the journal."""
    plan = plan_for(model, {"journal": str(out.absolute().parent / "journal"), **typed})
    runner = build(plan)
    journal = open_journal(plan, runner, model)
    if journal is None:
        raise AtomThinkError("`journal=off`: pairs are made from the journal; leave it out, or name a folder")
    with closing(journal):
        replace(runner, journal=journal).run(read_records(questions, AnsweredQuestion, check_images=False))
    return journal.folder


def _unique(pairs: Iterator[Pair], counts: PairCounts) -> Iterator[Pair]:
    """Yields each pair once. If an id occurs again, it gets a number."""
    seen: set[tuple[object, ...]] = set()
    ids: Counter[str] = Counter()
    for pair in pairs:
        key = (pair.question, pair.images, pair.history, pair.chosen, pair.rejected)
        if key in seen:
            counts.made["duplicates left out"] += 1
            continue
        seen.add(key)
        ids[pair.id] += 1
        yield pair if ids[pair.id] == 1 else pair.model_copy(update={"id": f"{pair.id}/{ids[pair.id]}"})


def journal_files(source: Path) -> list[Path]:
    """Returns the files of a journal: those of a folder, or the file itself. Empty if `source` is not a journal.

    Raises:
        AtomThinkError: There is no such file, or no journal in the folder.
    """
    if source.is_dir():
        files = rank_files(source)
        if not files:
            journals = ", ".join(map(str, journals_in(source)))
            hint = f"name one of its journals, newest first: {journals}" if journals else "name a journal's folder"
            raise AtomThinkError(f"{source} is not a journal, it has no rank*.jsonl; {hint}")
        return files
    _, first = next(json_rows(source), ("", None))
    return [source] if isinstance(first, dict) and ("outcome" in first or "failure" in first) else []


def finished_searches(files: Sequence[Path], counts: PairCounts) -> Iterator[tuple[JournalEntry, Outcome]]:
    """Yields the finished searches of a journal. A failed search is a reject if no later run finished it."""
    done: set[str] = set()
    failed: dict[str, Reject] = {}
    for entry in read_entries(files):
        if isinstance(entry, DamagedLine):
            text = entry.content.decode("utf-8", "replace").strip()
            counts.reject("damaged lines", [Reject(entry.place, entry.reason, text)])
        elif isinstance(entry.result, Outcome):
            done.add(entry.key)
            yield entry, entry.result
        else:
            failed[entry.key] = Reject(entry.place, f"it failed: {entry.result.reason}", {"question": entry.question})
    counts.reject("searches", [reject for key, reject in failed.items() if key not in done])


def pairs_of_journal(
    files: Sequence[Path], questions: Mapping[str, AnsweredQuestion], limits: PairLimits, counts: PairCounts
) -> Iterator[Pair]:
    """Yields the pairs of finished searches. Their questions have the images and the right answers."""
    for entry, outcome in finished_searches(files, counts):
        question = questions.get(entry.question)
        if question is None:
            reject = Reject(entry.place, "its question is not in --questions", {"question": entry.question})
            counts.reject("searches", [reject])
            continue
        counts.read["searches"] += 1
        steps, finished = paths_of(outcome, question.answer)
        outside = sum(node.rejected is None and node.id not in steps for node in outcome.nodes)
        counts.made["nodes outside the question's own chains"] += outside
        siblings = ((at, (one,), (other,)) for at, one, other in sibling_pairs(outcome.nodes, steps, limits))
        whole = path_pairs(finished, limits.per_question)
        for kind, found in (("step", siblings), ("path", whole)):
            yield from counts.pairs(entry.question, kind, found, entry.text, question.images)


def pairs_of_chains(file: Path, out: Path, limits: PairLimits, counts: PairCounts) -> Iterator[Pair]:
    """Yields pairs of a right and a wrong chain about the same question, for the file `out`.

    Chains that state no answer or whose right answer is not known are rejects.
    """
    found = read_records(file, Chain)
    counts.reject("chains", found.rejects)
    groups: dict[tuple[str, tuple[str, ...]], list[Chain]] = {}
    for chain in found.records:
        if not chain.answer or final_answer(chain.steps[-1]) is None:
            reason = "it states no final answer" if chain.answer else "its right answer is not known"
            reject = Reject(f"{file.name}, id {chain.id!r}", reason, chain.model_dump(exclude_none=True))
            counts.reject("chains", [reject])
            continue
        counts.read["chains"] += 1
        moved = relocated(chain, found.folder, out)
        groups.setdefault((moved.question, moved.images), []).append(moved)
    for (question, images), chains in groups.items():
        paths = [FinishedPath(one.steps, equivalent(final_answer(one.steps[-1]) or "", one.answer)) for one in chains]
        whole = path_pairs(paths, limits.per_question)
        yield from counts.pairs(chains[0].id, "path", whole, question, images)


def paths_of(outcome: Outcome, answer: str) -> tuple[dict[str, Steps], list[FinishedPath]]:
    """Returns the steps up to each node by its id, and the finished paths if the right answer is known.

    Only chains of sampled steps from the question's own root count. A policy that is trained on a critique or on a text
    that the search wrote would learn to write it as a step, and below another root the prompt is another one.
    """
    steps: dict[str, Steps] = {ROOT: ()}
    children: dict[str, list[Node]] = {}
    for node in outcome.nodes:
        if node.rejected is None and node.is_step:
            children.setdefault(node.parent, []).append(node)
    reached = [ROOT]
    for parent in reached:
        for node in children.get(parent, ()):
            steps[node.id] = (*steps[parent], node.text)
            reached.append(node.id)
    ended = [node for node in outcome.nodes if node.id in steps and node.answer is not None] if answer else []
    return steps, [FinishedPath(steps[node.id], equivalent(node.answer or "", answer)) for node in ended]


def sibling_pairs(
    nodes: Sequence[Node], steps: Mapping[str, Steps], limits: PairLimits
) -> Iterator[tuple[Steps, str, str]]:
    """Yields history, better step and worse step of siblings of the same unit whose scores differ enough."""
    siblings: dict[tuple[str, str], list[Node]] = {}
    for node in nodes:
        if node.score is not None and node.id in steps and node.parent in steps:
            siblings.setdefault((node.parent, node.unit), []).append(node)
    least = limits.margin - 1e-9  # 0.5 - 0.45 is a little less than 0.05
    for (parent, _), children in siblings.items():
        scored = [(child.score or 0.0, child.text) for child in children]
        found = [(a - b, better, worse) for a, better in scored for b, worse in scored if better != worse]
        enough = sorted((pair for pair in found if pair[0] >= least), key=lambda pair: -pair[0])
        yield from ((steps[parent], better, worse) for _, better, worse in enough[: limits.per_prefix])


def path_pairs(paths: Sequence[FinishedPath], count: int) -> Iterator[tuple[Steps, Steps, Steps]]:
    """Yields common history, and rest of a right and of a wrong path. Every path is used before one is used again."""
    right, wrong = (dict.fromkeys(path.steps for path in paths if path.right is wanted) for wanted in (True, False))
    # If two answers are given as right, a path may be both right and wrong. It is not used.
    good, bad = [path for path in right if path not in wrong], [path for path in wrong if path not in right]
    if not good or not bad:
        return
    # Diagonals of the table of good and bad paths, so that no cell comes twice.
    cells = [((at + turn) % len(good), at) for turn in range(len(good)) for at in range(len(bad))]
    for first, second in cells[:count]:
        better, worse = good[first], bad[second]
        common = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(better, worse, strict=False))))
        shared = min(common, len(better) - 1, len(worse) - 1)
        yield better[:shared], better[shared:], worse[shared:]
