"""Every step of every chain goes through the scorer as a search would ask it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from atomthink_plugin.answers import final_answer
from atomthink_plugin.api import AtomThinkError, Path, QuestionError, Scorer, Step
from atomthink_plugin.runtime.event_loop import run
from atomthink_plugin.training.evaluate.labelled import Labelled
from atomthink_plugin.training.evaluate.progress import StepProgress
from atomthink_plugin.training.evaluate.score_file import ScoreFile
from atomthink_plugin.training.evaluate.scored import Scored

log = logging.getLogger(__name__)

CONCURRENCY: Final = 64
"""Chains in flight at most."""


@dataclass(frozen=True, slots=True)
class Scores:
    """What became of a set's chains.

    Attributes:
        chains: Those all steps of which have a score, in the set's order.
        failed: Ids of the others, with the reason.
    """

    chains: tuple[Scored, ...]
    failed: dict[str, str]


def score_chains(items: Sequence[Labelled], scorer: Scorer, file: ScoreFile | None = None, label: str = "") -> Scores:
    """Scores all steps; those the file knows are not scored again.

    Raises:
        AtomThinkError: The PRM cannot be used, or scored none of the chains.
    """
    given = run(_score_all(items, scorer, file, label))
    pairs = list(zip(items, given, strict=True))
    failed = {item.chain.id: scores for item, scores in pairs if isinstance(scores, str)}
    if len(failed) == len(items):
        raise AtomThinkError(f"none of the {len(items)} chains could be scored; the first: {given[0]}")
    if failed:
        first, reason = next(iter(failed.items()))
        log.error(
            "%d of %d chains cannot be scored and are left out; first: %s: %s", len(failed), len(items), first, reason
        )
    return Scores(tuple(Scored(item, scores) for item, scores in pairs if not isinstance(scores, str)), failed)


async def _score_all(
    items: Sequence[Labelled], scorer: Scorer, file: ScoreFile | None, label: str
) -> list[tuple[float, ...] | str]:
    keys = [item.key() for item in items] if file else [""] * len(items)
    known = [file.get(item, key) if file else None for item, key in zip(items, keys, strict=True)]
    given: dict[int, tuple[float, ...] | str] = {i: scores for i, scores in enumerate(known) if scores is not None}
    todo = [index for index in range(len(items)) if index not in given]
    if file and given:
        log.info("%d of %d chains have their scores from an earlier run", len(given), len(items))

    async def work(queue: Iterator[int], progress: StepProgress) -> None:
        for index in queue:
            given[index] = scores = await _score(items[index], scorer)
            if file:
                file.put(items[index], keys[index], scores)
            progress.advance(len(items[index].chain.steps))

    queue = iter(todo)
    with StepProgress(sum(len(items[index].chain.steps) for index in todo), label) as progress:
        tasks = [asyncio.create_task(work(queue, progress)) for _ in range(min(CONCURRENCY, len(todo)))]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    return [given[index] for index in range(len(items))]


async def _score(item: Labelled, scorer: Scorer) -> tuple[float, ...] | str:
    """Returns the steps' scores, or why the chain cannot be scored.

    One step after the other: each finds the ones before it in the scorer's cache, and batches fill over chains.
    """
    path, scores = Path(item.asked()), []
    for text in item.chain.steps:
        path = path.extend(Step(text), final_answer(text))
        try:
            score = await scorer.score(path)
        except QuestionError as error:
            return f"step {path.depth}: {error}"
        if not 0.0 <= score.value <= 1.0:
            raise AtomThinkError(f"the scorer gave {score.value!r} for a step; scores must be in [0, 1]")
        scores.append(score.value)
    return tuple(scores)
