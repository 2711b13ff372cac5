"""Scores of all steps of labelled chains, kept in a file so that a later run continues."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, Final

from atomthink_plugin.answers import final_answer
from atomthink_plugin.api import AtomThinkError, Path, QuestionError, Scorer, Step
from atomthink_plugin.append_log import AppendLog
from atomthink_plugin.runtime.event_loop import run
from atomthink_plugin.runtime.progress import RunProgress
from atomthink_plugin.training.evaluate.readers import LabelledChain

log = logging.getLogger(__name__)

CONCURRENCY: Final = 64
"""How many chains are scored at the same time."""


@dataclass(frozen=True, slots=True)
class ScoredChain:
    """A labelled chain and the score of each of its steps, from 0 to 1."""

    item: LabelledChain
    scores: tuple[float, ...]

    def first_below(self, threshold: float) -> int | None:
        """Returns the index of the first step with a score below the threshold, None if there is none."""
        return next((index for index, score in enumerate(self.scores) if score < threshold), None)

    def labelled_steps(self) -> list[tuple[float, bool]]:
        """Returns the score and the label of every step that has a label."""
        pairs = zip(self.scores, self.item.labels, strict=True)
        return [(score, label) for score, label in pairs if label is not None]


@dataclass(frozen=True, slots=True)
class ScoredSet:
    """The chains that were scored, in order, and the reason for each chain that could not be scored, by id."""

    chains: tuple[ScoredChain, ...]
    failed: Mapping[str, str]


class ScoreFile:
    """A file of scores. Its first line identifies the PRM (everything that determines scores), each other line a chain.

    Chains are found by a digest of what the PRM sees, so a chain may have another id in a later run. The reason of a
    failure is written too; a later run tries that chain again.

    Raises:
        AtomThinkError: The file has the scores of another PRM, or cannot be used.
    """

    def __init__(self, file: FilePath, prm: Mapping[str, Any]) -> None:
        head = json.loads(json.dumps({"prm": prm}, default=str))
        self._log = AppendLog(file, "`--scores FILE`")
        if file.stat().st_size == 0:
            self._log.append(head, sync=True)
        entries = list(self._log.entries())
        if not entries or (entries[0].number, entries[0].record) != (1, head):
            self.close()
            raise AtomThinkError(f"`--scores {file}` does not begin with the identity of this PRM. Choose a new file")
        records = (entry.record for entry in entries[1:])
        self._known = {record["key"]: tuple(record["scores"]) for record in records if "scores" in record}

    def get(self, item: LabelledChain, key: str) -> tuple[float, ...] | None:
        """Returns the scores of a chain, None if they are not known."""
        scores = self._known.get(key, ())
        return scores if len(scores) == len(item.chain.steps) else None

    def put(self, item: LabelledChain, key: str, scores: Sequence[float] | str) -> None:
        """Appends the scores of a chain, or the reason why it has none, and waits until they are on disk."""
        found = {"failure": scores} if isinstance(scores, str) else {"scores": list(scores)}
        self._log.append({"key": key, "id": item.chain.id, **found}, sync=True)

    def close(self) -> None:
        """Closes the file."""
        self._log.close()


def score_chains(
    items: Sequence[LabelledChain], scorer: Scorer, file: ScoreFile | None = None, label: str = ""
) -> ScoredSet:
    """Scores every step as a search would. Chains whose scores are in the file are not scored again.

    `label` is what the progress display calls the chains.

    Raises:
        AtomThinkError: The scorer cannot be used, or none of the chains could be scored.
    """
    scores = run(_score_all(items, scorer, file, label))
    pairs = list(zip(items, scores, strict=True))
    failed = {item.chain.id: found for item, found in pairs if isinstance(found, str)}
    if failed:
        what = f"{len(failed)} of {len(items)} chains cannot be scored; the first: {next(iter(failed.values()))}"
        if len(failed) == len(items):
            raise AtomThinkError(what)
        log.error(what)
    return ScoredSet(tuple(ScoredChain(item, found) for item, found in pairs if not isinstance(found, str)), failed)


async def _score_all(
    items: Sequence[LabelledChain], scorer: Scorer, file: ScoreFile | None, label: str
) -> list[tuple[float, ...] | str]:
    keys = [item.key() for item in items] if file else [""] * len(items)
    known = [file.get(item, key) if file else None for item, key in zip(items, keys, strict=True)]
    scores: dict[int, tuple[float, ...] | str] = {at: found for at, found in enumerate(known) if found is not None}
    missing = [index for index in range(len(items)) if index not in scores]
    if scores:
        log.info("%d of %d chains have scores from an earlier run", len(scores), len(items))

    async def work(queue: Iterator[int], progress: RunProgress) -> None:
        for index in queue:
            scores[index] = found = await _score(items[index], scorer)
            if file:
                file.put(items[index], keys[index], found)
            progress.advance(len(items[index].chain.steps), failed=isinstance(found, str))

    queue = iter(missing)
    steps = sum(len(items[index].chain.steps) for index in missing)
    with RunProgress(steps, label, unit="steps", rate_of=None) as progress:
        tasks = [asyncio.create_task(work(queue, progress)) for _ in range(min(CONCURRENCY, len(missing)))]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    return [scores[index] for index in range(len(items))]


async def _score(item: LabelledChain, scorer: Scorer) -> tuple[float, ...] | str:
    """Returns the scores of a chain's steps, or why it cannot be scored.

    The steps are scored in order, so that each finds the earlier ones in the scorer's cache.
    """
    path, scores = Path(item.engine_question()), []
    for text in item.chain.steps:
        path = path.extend(Step(text), final_answer(text))
        try:
            score = await scorer.score(path)
        except QuestionError as error:
            return f"step {path.depth}: {error}"
        if not 0.0 <= score.value <= 1.0:
            raise AtomThinkError(f"the scorer returned {score.value!r} for a step; scores must be in [0, 1]")
        scores.append(score.value)
    return tuple(scores)
