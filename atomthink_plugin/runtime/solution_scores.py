"""Scores of all steps of given solutions, kept in a file so that a later run continues."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path as FilePath
from typing import Any, Final

from atomthink_plugin.answers import final_answer
from atomthink_plugin.api import (
    AtomThinkError,
    ChainScorer,
    CriticScorer,
    Message,
    Path,
    Question,
    QuestionError,
    Score,
    Scorer,
    Step,
)
from atomthink_plugin.append_log import AppendLog
from atomthink_plugin.inference.image_input import BROKEN, Picture, read_image
from atomthink_plugin.runtime.event_loop import run
from atomthink_plugin.runtime.progress import RunProgress

log = logging.getLogger(__name__)

CONCURRENCY: Final = 64
"""How many solutions are scored at the same time."""

StepScores = tuple[float, ...] | str
"""The score of each step of a solution, or why it has none."""


@dataclass(frozen=True, slots=True)
class GivenSolution:
    """A solution that is scored as it is.

    Attributes:
        id: Names it in messages and files.
        question: The question's text.
        steps: The steps in order.
        pictures: The question's images in reading order.
    """

    id: str
    question: str
    steps: tuple[str, ...]
    pictures: tuple[Picture, ...] = ()

    def engine_question(self) -> Question:
        """Returns the question for the scorer: images first.

        Raises:
            QuestionError: An image cannot be read.
        """
        try:
            images = [read_image(picture) for picture in self.pictures]
        except BROKEN as error:
            raise QuestionError(f"an image cannot be read ({type(error).__name__}: {error})") from None
        return Question(self.id, (Message("user", (*images, self.question)),))

    def key(self) -> str:
        """Returns a digest of all that a scorer sees: images, question and steps."""
        digest = hashlib.blake2b(digest_size=12)
        contents = (p if isinstance(p, bytes) else p.read_bytes() for p in self.pictures)
        texts = (text.encode("utf-8", "surrogatepass") for text in (self.question, *self.steps))
        for part in (*contents, b"", *texts):
            digest.update(len(part).to_bytes(8, "big") + part)
        return digest.hexdigest()


class ScoreFile:
    """A file of scores: the first line identifies the scorer, each other line has the scores of a solution.

    Solutions are found by a digest of what the scorer sees, so a solution may have another id in a later run. The
    reason of a failure is written too; a later run tries that solution again.

    Args:
        file: The file. It is created if it does not exist.
        scorer: Everything that determines the scores.
        argument: What the user chose the file with, for errors.

    Raises:
        AtomThinkError: The file has the scores of another scorer, or cannot be used.
    """

    def __init__(self, file: FilePath, scorer: Mapping[str, Any], argument: str = "--scores") -> None:
        head = json.loads(json.dumps({"prm": scorer}, default=str))
        self._log = AppendLog(file, f"`{argument} FILE`")
        if file.stat().st_size == 0:
            self._log.append(head, sync=True)
        entries = list(self._log.entries())
        if not entries or (entries[0].number, entries[0].record) != (1, head):
            self.close()
            raise AtomThinkError(
                f"`{argument} {file}` does not begin with the identity of this PRM. Name the PRM, with the arguments, "
                "whose scores it has, or choose a new file"
            )
        records = (entry.record for entry in entries[1:])
        self._known = {record["key"]: tuple(record["scores"]) for record in records if "scores" in record}

    def get(self, solution: GivenSolution, key: str) -> tuple[float, ...] | None:
        """Returns the scores of a solution, None if they are not known."""
        scores = self._known.get(key, ())
        return scores if len(scores) == len(solution.steps) else None

    def put(self, solution: GivenSolution, key: str, scores: Sequence[float] | str) -> None:
        """Appends the scores of a solution, or the reason why it has none, and waits until they are on disk."""
        found = {"failure": scores} if isinstance(scores, str) else {"scores": list(scores)}
        self._log.append({"key": key, "id": solution.id, **found}, sync=True)

    def close(self) -> None:
        """Closes the file."""
        self._log.close()


def score_solutions(
    solutions: Sequence[GivenSolution],
    scorer: Scorer,
    file: ScoreFile | None = None,
    label: str = "",
    *,
    concurrency: int = CONCURRENCY,
    shown: bool = True,
) -> list[StepScores]:
    """Scores every step as a search would. Solutions whose scores are in the file are not scored again.

    Solutions with the same images, question and steps are scored once.

    Args:
        solutions: The solutions.
        scorer: The scorer.
        file: Where scores are kept.
        label: What the progress display calls the solutions.
        concurrency: How many solutions are scored at the same time.
        shown: Whether to show progress.

    Raises:
        AtomThinkError: The scorer cannot be used.
    """
    bar = partial(RunProgress, label=label, unit="steps", rate_of=None, shown=shown)
    scores = run(_score_all(solutions, scorer, file, concurrency, bar))
    if isinstance(scorer, CriticScorer) and (summary := scorer.summary()):
        log.warning("%s: %s", scorer.identity, summary)
    return scores


async def _score_all(
    solutions: Sequence[GivenSolution],
    scorer: Scorer,
    file: ScoreFile | None,
    concurrency: int,
    bar: Callable[[int], RunProgress],
) -> list[StepScores]:
    keys = [_readable_key(solution, at) for at, solution in enumerate(solutions)]
    different = dict(zip(reversed(keys), reversed(solutions), strict=True))  # of equal ones, the first names them
    scores: dict[str, StepScores] = {}
    if file is not None:
        known = ((key, file.get(solution, key)) for key, solution in different.items())
        scores = {key: found for key, found in known if found is not None}
    if scores:
        log.info("%d of %d chains have scores from an earlier run", sum(key in scores for key in keys), len(keys))
    missing = {key: different[key] for key in keys if key not in scores}

    async def work(queue: Iterator[tuple[str, GivenSolution]], progress: RunProgress) -> None:
        for key, solution in queue:
            scores[key] = found = await _score(solution, scorer)
            if file is not None:
                file.put(solution, key, found)
            progress.advance(len(solution.steps), failed=isinstance(found, str))

    queue = iter(missing.items())
    with bar(sum(len(solution.steps) for solution in missing.values())) as progress:
        tasks = [asyncio.create_task(work(queue, progress)) for _ in range(min(concurrency, len(missing)))]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    return [scores[key] for key in keys]


def _readable_key(solution: GivenSolution, at: int) -> str:
    """Returns the key of a solution. One with an image that cannot be read has a key of its own."""
    try:
        return solution.key()
    except OSError:
        return f"unreadable {at}"


async def _score(solution: GivenSolution, scorer: Scorer) -> StepScores:
    """Returns the scores of a solution's steps, or why it cannot be scored.

    The steps are scored in order, so that each finds the earlier ones in the scorer's cache.
    """
    scores: list[Score] = []
    place = ""
    try:
        path = Path(solution.engine_question())
        for text in solution.steps:
            path = path.extend(Step(text), final_answer(text))
            if not isinstance(scorer, ChainScorer):
                place = f"step {path.depth}: "
                scores.append(await scorer.score(path))
        if isinstance(scorer, ChainScorer):
            scores.extend(await scorer.score_chain(path))
    except QuestionError as error:
        return f"{place}{error}"
    values = tuple(score.value for score in scores)
    if len(values) != len(solution.steps):
        raise AtomThinkError(f"the scorer returned {len(values)} scores for {len(solution.steps)} steps")
    if odd := [value for value in values if not 0.0 <= value <= 1.0]:
        raise AtomThinkError(f"the scorer returned {odd[0]!r} for a step; scores must be in [0, 1]")
    return values
