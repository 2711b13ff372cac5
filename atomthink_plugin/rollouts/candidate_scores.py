"""Scores every step of every candidate with a process reward model (PRM)."""

from __future__ import annotations

import logging
import math
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from atomthink_plugin.answers import final_answer
from atomthink_plugin.api import (
    AtomThinkError,
    ChainScorer,
    CriticScorer,
    Path,
    Question,
    QuestionError,
    Score,
    Scorer,
    ServerError,
    Step,
    Usage,
)
from atomthink_plugin.inference.image_input import BROKEN
from atomthink_plugin.rollouts.rollout_set import RolloutSet
from atomthink_plugin.rollouts.score_file import (
    CandidateScoreFile,
    ScoredSteps,
    ScoreKey,
    candidate_digest,
    question_digest,
    scorer_digest,
)
from atomthink_plugin.runtime.event_loop import run, together
from atomthink_plugin.runtime.progress import RunProgress
from atomthink_plugin.runtime.speed import RunMeter, RunSpeed

log = logging.getLogger(__name__)

CONCURRENCY: Final = 64
"""How many candidates are scored at the same time."""

_DIGITS: Final = re.compile(r"\d+")

ScoresOrReason = tuple[float, ...] | str
"""The score of each step of a candidate, or why it has none."""


@dataclass(frozen=True, slots=True)
class CandidateScores:
    """The step scores of all candidates by one PRM.

    Attributes:
        prm: The name of the PRM.
        scores: For each question, those of each candidate.
        reasons: For each question, the critiques of each candidate's steps; empty if the PRM writes none.
        usage: What they cost, with those of earlier runs; `seconds` are of wall-clock time.
        scored: How many different candidates this run scored.
        resumed: How many different candidates have scores from an earlier run.
        identity: Everything that determines the scores; None for those of the file of candidates, whose cost is not
            known either.
        speed: The speed of this run; None if it scored nothing.
    """

    prm: str
    scores: Sequence[Sequence[ScoresOrReason]]
    usage: Usage
    reasons: Sequence[Sequence[tuple[str, ...]]] = ()
    scored: int = 0
    resumed: int = 0
    identity: Mapping[str, Any] | None = None
    speed: RunSpeed | None = None

    @property
    def failed(self) -> Counter[str]:
        """How many candidates have no scores, by the reason, see `count_alike`."""
        return count_alike(found for own in self.scores for found in own if isinstance(found, str))

    def require_one(self) -> CandidateScores:
        """Returns the scores.

        Raises:
            AtomThinkError: No candidate has any.
        """
        reasons = self.failed
        if reasons.total() == sum(map(len, self.scores)):
            reason = reasons.most_common(1)[0][0] if reasons else "there are no candidates"
            raise AtomThinkError(f"`--prm {self.prm}`: no candidate has scores; the most frequent reason: {reason}")
        return self


def count_alike(reasons: Iterable[str]) -> Counter[str]:
    """Returns how often each reason occurs. Reasons that differ in numbers alone count together, under the first."""
    first: dict[str, str] = {}
    return Counter(first.setdefault(_DIGITS.sub("0", reason), reason) for reason in reasons)


def scores_in_file(sets: Sequence[RolloutSet], named: str, prm: str) -> CandidateScores:
    """Returns step scores that the file of the candidates has.

    Args:
        sets: The questions with their candidates, which have steps.
        named: The name of the scores in the file.
        prm: Their name in reports.

    Raises:
        AtomThinkError: No candidate has scores of such a PRM that fit its steps.
    """
    names = sorted({name for one in sets for candidate in one.candidates for name in candidate.scores})
    if named not in names:
        have = f"It has those of {', '.join(names)}" if names else "It has no step scores"
        raise AtomThinkError(f"`--prm file:{named}`: the file has no step scores of that name. {have}")
    found = [[_checked(one.scores.get(named), one.steps or ()) for one in asked.candidates] for asked in sets]
    return CandidateScores(prm, found, Usage()).require_one()


def _checked(scores: Sequence[float] | None, steps: Sequence[str]) -> ScoresOrReason:
    if scores is None:
        return "the file has no scores of this candidate"
    if len(scores) != len(steps):
        return f"the file has {len(scores)} scores for {len(steps)} steps"
    if not scores:
        return "it has no steps"
    if not all(map(math.isfinite, scores)):
        return "the file has a score that is no finite number"
    return tuple(map(float, scores))


def score_candidates(
    sets: Sequence[RolloutSet], scorer: Scorer, prm: str, identity: Mapping[str, Any], file: CandidateScoreFile
) -> CandidateScores:
    """Scores every step of every candidate as a search would. Equal candidates of a question are scored once.

    Args:
        sets: The questions with their candidates, which have steps.
        scorer: The PRM.
        prm: Its name in reports.
        identity: Everything that determines its scores.
        file: Has the scores of earlier runs, and gets the new ones.

    Raises:
        AtomThinkError: The scorer cannot be used, a score is not in [0, 1], or no candidate could be scored.
    """
    digest = scorer_digest(identity)
    file.describe(digest, identity)
    work = _Work(sets, digest, file)
    if work.known:
        log.info("%s: %d of %d candidates have scores from an earlier run", prm, len(work.known), work.distinct)
    meter = RunMeter({"prm": scorer})
    fresh = run(_score_all(work, scorer, prm, file)) if work.missing else {}
    meter.add(_cost(fresh))
    speed = meter.speed() if fresh else None
    found = work.known | fresh
    if isinstance(scorer, CriticScorer) and (summary := scorer.summary()):
        log.warning("%s: %s", prm, summary)
    result = CandidateScores(
        prm=prm,
        scores=work.by_question(found),
        usage=_cost(found),
        reasons=work.reasons(found),
        scored=sum(not isinstance(one, str) for one in fresh.values()),
        resumed=len(work.known),
        identity=identity,
        speed=speed,
    )
    return result.require_one()


def _cost(found: Mapping[ScoreKey, ScoredSteps | str]) -> Usage:
    return sum((one.usage for one in found.values() if not isinstance(one, str)), Usage())


@dataclass(slots=True)
class _Job:
    """A candidate to be scored."""

    key: ScoreKey
    asked: RolloutSet
    steps: tuple[str, ...]


class _Work:
    """Which candidates need scores, by their keys, with the candidates of one question together."""

    def __init__(self, sets: Sequence[RolloutSet], scorer: str, file: CandidateScoreFile) -> None:
        self.known: dict[ScoreKey, ScoredSteps | str] = {}
        self.missing: dict[ScoreKey, _Job] = {}
        self._keys: list[list[ScoreKey | str]] = []
        for asked in sets:
            try:
                question = question_digest(asked)
            except OSError as error:
                self._keys.append([f"an image cannot be read ({error})"] * len(asked.candidates))
                continue
            self._keys.append([self._add(asked, question, one.steps or (), scorer, file) for one in asked.candidates])

    @property
    def distinct(self) -> int:
        return len(self.known) + len(self.missing)

    def _add(
        self, asked: RolloutSet, question: str, steps: tuple[str, ...], scorer: str, file: CandidateScoreFile
    ) -> ScoreKey | str:
        if not steps:
            return "it has no steps"
        key = ScoreKey(scorer, question, candidate_digest(steps))
        if (found := file.get(key, steps)) is not None:
            self.known[key] = found
        else:
            self.missing[key] = _Job(key, asked, steps)
        return key

    def by_question(self, found: Mapping[ScoreKey, ScoredSteps | str]) -> list[list[ScoresOrReason]]:
        """Returns the scores of each candidate of each question."""
        return [[key if isinstance(key, str) else _scores(found[key]) for key in own] for own in self._keys]

    def reasons(self, found: Mapping[ScoreKey, ScoredSteps | str]) -> list[list[tuple[str, ...]]]:
        """Returns the critiques of each candidate of each question, empty if there are none at all."""
        if not any(one.reasons for one in found.values() if not isinstance(one, str)):
            return []
        known = {key: () if isinstance(one, str) else one.reasons for key, one in found.items()}
        return [[() if isinstance(key, str) else known[key] for key in own] for own in self._keys]


def _scores(found: ScoredSteps | str) -> ScoresOrReason:
    return found if isinstance(found, str) else found.scores


async def _score_all(
    work: _Work, scorer: Scorer, prm: str, file: CandidateScoreFile
) -> dict[ScoreKey, ScoredSteps | str]:
    questions = _Questions(work.missing.values())
    scores: dict[ScoreKey, ScoredSteps | str] = {}
    last = time.monotonic()

    async def take(queue: Iterator[_Job], progress: RunProgress) -> None:
        nonlocal last
        for job in queue:
            found = await _score(questions.get(job), job.steps, scorer)
            now = time.monotonic()
            if not isinstance(found, str):  # the records' seconds add up to the time of all runs, killed ones as well
                found = replace(found, usage=replace(found.usage, seconds=now - last))
                last = now
            scores[job.key] = found
            file.put(job.key, found)
            questions.done(job)
            progress.advance(len(job.steps), failed=isinstance(found, str))

    queue = iter(work.missing.values())
    steps = sum(len(job.steps) for job in work.missing.values())
    with RunProgress(steps, f"score with {prm}", unit="steps", rate_of=None) as progress:
        await together(*(take(queue, progress) for _ in range(min(CONCURRENCY, len(work.missing)))))
    return scores


class _Questions:
    """The questions of candidates in work, each with its images in memory until its last candidate is scored."""

    def __init__(self, jobs: Iterable[_Job]) -> None:
        self._left = Counter(job.key.question for job in jobs)
        self._loaded: dict[str, Question | str] = {}

    def get(self, job: _Job) -> Question | str:
        """Returns the question, or why it cannot be asked."""
        name = job.key.question
        if name not in self._loaded:
            try:
                self._loaded[name] = job.asked.engine_question()
            except BROKEN as error:
                self._loaded[name] = f"an image cannot be read ({error})"
        return self._loaded[name]

    def done(self, job: _Job) -> None:
        """Frees the question of a candidate if no other candidate waits for it."""
        self._left[job.key.question] -= 1
        if not self._left[job.key.question]:
            del self._loaded[job.key.question]


async def _score(question: Question | str, steps: Sequence[str], scorer: Scorer) -> ScoredSteps | str:
    """Returns the scores of all steps, or why they cannot be scored.

    The steps are scored in order, so that each finds the earlier ones in the scorer's cache.
    """
    if isinstance(question, str):
        return question
    path = Path(question)
    for text in steps:
        path = path.extend(Step(text), final_answer(text))
    found: list[Score] = []
    try:
        if isinstance(scorer, ChainScorer):
            found = list(await scorer.score_chain(path))
        else:
            for prefix in path.lineage:
                found.append(await scorer.score(prefix))
    except ServerError:
        raise  # it would fail at every other candidate as well; the run continues later
    except QuestionError as error:
        return str(error) if isinstance(scorer, ChainScorer) else f"step {len(found) + 1}: {error}"
    if len(found) != len(steps):
        raise AtomThinkError(f"the scorer returned {len(found)} scores for {len(steps)} steps")
    if bad := [score.value for score in found if not 0.0 <= score.value <= 1.0]:
        raise AtomThinkError(f"the scorer returned {bad[0]!r} for a step; scores must be in [0, 1]")
    reasons = tuple(score.reason for score in found) if any(score.reason for score in found) else ()
    usage = sum((score.usage for score in found), Usage())
    return ScoredSteps(tuple(score.value for score in found), usage, reasons)
