"""Model answers about unfinished questions, so that a run that was killed repeats only the calls in flight.

What a search asks depends only on its seeds and on earlier answers. A resumed search therefore repeats its requests,
gets the logged answers, and continues from there. Requests that an older version logged under other names are asked
again.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from atomthink_plugin.api import (
    AtomThinkError,
    ChainScorer,
    CriticScorer,
    Path,
    Policy,
    Prompt,
    Proposal,
    Question,
    Sampling,
    Score,
    Scorer,
    Step,
    Usage,
)
from atomthink_plugin.append_log import AppendLog, LogEntry, read_log
from atomthink_plugin.runtime.records import decode, encode
from atomthink_plugin.runtime.requests import prompt_digest

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)

Answer = TypeVar("Answer", Proposal, Score)

_SLACK: Final = 4 << 20
"""Bytes of dropped answers that a file may hold before it is rewritten without them."""


class _Place(NamedTuple):
    file: FilePath
    start: int
    size: int


class PartialLog:
    """The answers about unfinished and failed questions, one append-only file per process.

    Answers are not synced to the disk one by one: a killed process loses none, a crashed machine loses the last
    seconds. The answers about a question are dropped when it is finished. A file that cannot be read or written is
    not used, and a warning is logged.

    Args:
        folder: The journal's folder.
        rank: Index of this process. The answers of all processes are read.
        finished: Keys of finished questions.
    """

    def __init__(self, folder: FilePath, rank: int, finished: Container[str]) -> None:
        self._own = folder / f"partial_rank{rank}.jsonl"
        self._places: dict[str, list[_Place]] = defaultdict(list)
        self._asked: set[str] = set()
        self._dropped = self._size = 0
        self._log: AppendLog | None = None
        for file in sorted(folder.glob("partial_rank*.jsonl")):
            if file.is_file():
                try:
                    self._scan(file, finished)
                except AtomThinkError as error:
                    log.warning("%s. The models are asked again for the answers in it", error)
        with self._giving_up():
            # The journal's lock covers this file. Lone surrogates are kept: no other program reads it.
            encoded = partial(encode, errors="surrogatepass")
            self._log = AppendLog(self._own, "`journal=FOLDER`", encode=encoded, decode=decode, lock=False)
            if self._own.stat().st_size:
                self.rewrite()

    def earlier(self, key: str) -> Iterator[tuple[str, float, Proposal | Score]]:
        """Yields the logged answers about a question: the request, the question's seconds so far, the answer."""
        for place in self._places.get(key, ()):
            try:
                with place.file.open("rb") as file:
                    file.seek(place.start)
                    record = decode(file.read(place.size))
                found = record["request"], record["seconds"], _answer(record["answer"])
            except (OSError, ValueError, KeyError, TypeError):
                continue  # rewritten by another process, or written by an older version
            if record["key"] == key:
                yield found

    def ask(self, key: str) -> None:
        """Notes that a model is asked about a question in this run."""
        self._asked.add(key)

    def append(self, key: str, request: str, seconds: float, answer: Proposal | Score) -> None:
        """Logs an answer."""
        if self._log is None:
            return
        try:
            start, size = self._log.append({"key": key, "request": request, "seconds": seconds, "answer": answer})
        except AtomThinkError as error:
            self._give_up(error)
            return
        self._places[key].append(_Place(self._own, start, size))
        self._size = start + size

    def finish(self, key: str) -> None:
        """Drops the answers about a finished question."""
        self._asked.discard(key)
        self._dropped += sum(place.size for place in self._places.pop(key, ()) if place.file == self._own)
        if self._dropped > max(_SLACK, self._size // 2):
            self.rewrite()

    def fail(self, key: str) -> None:
        """Keeps the answers about a failed question, unless it failed on logged answers alone."""
        if key not in self._asked:
            self.finish(key)
        self._asked.discard(key)

    def rewrite(self) -> None:
        """Rewrites this process's file without the answers that were dropped."""
        if self._log is None:
            return
        moved: dict[str, list[_Place]] = defaultdict(list)
        with self._giving_up():
            self._log.rewrite(self._kept(self._log, moved))
            self._places, self._dropped = moved, 0
            self._size = sum(place.size for places in moved.values() for place in places if place.file == self._own)

    def close(self) -> None:
        """Closes this process's file, and deletes it if no later run needs its answers."""
        if self._log is None:
            return
        self._log.close()
        self._log = None  # a failed question may still have calls in flight
        if not any(place.file == self._own for places in self._places.values() for place in places):
            self._own.unlink(missing_ok=True)

    def _scan(self, file: FilePath, finished: Container[str]) -> None:
        for line in read_log(file, decode):
            # Damaged lines cause no warning: a killed process leaves one, and its call is only asked again.
            if isinstance(line, LogEntry) and isinstance(key := line.record.get("key"), str) and key not in finished:
                self._places[key].append(_Place(file, line.start, line.size))

    def _kept(self, answers: AppendLog, moved: dict[str, list[_Place]]) -> Iterator[bytes]:
        """Yields the needed lines of this process's file, and collects the new places of all answers."""
        size = 0
        for key, places in self._places.items():
            for place in places:
                if place.file != self._own:
                    moved[key].append(place)
                    continue
                line = answers.read(place.start, place.size).rstrip() + b"\n"  # a kill may cut the line break off
                yield line
                moved[key].append(_Place(self._own, size, len(line)))
                size += len(line)

    @contextmanager
    def _giving_up(self) -> Iterator[None]:
        """Stops using this process's file when it cannot be read or written."""
        try:
            yield
        except (AtomThinkError, OSError) as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        log.warning("%s. If the run is killed, unfinished questions start from the beginning", error)
        if self._log is not None:
            self._log.close()
        self._log = None


class Recorder:
    """Asks the models about one question and logs their answers. Requests that are in the log are not asked again.

    Attributes:
        policies: The recording policies, by role.
        scorer: The recording scorer, None for searches without a scorer.
        spent: The cost of this run's model calls, without answers from the log.
        images: The question's images.

    Args:
        answers: The log.
        question: The question.
        policies: The policies to ask, by role.
        scorer: The scorer to ask, None for searches without a scorer.
    """

    def __init__(
        self, answers: PartialLog, question: Question, policies: Mapping[str, Policy], scorer: Scorer | None
    ) -> None:
        self.scorer = None if scorer is None else _recorded(self, scorer)
        self.policies = {role: _RecordedPolicy(self, role, policy) for role, policy in policies.items()}
        self.spent = Usage()
        self.images = question.images
        self._log, self._key = answers, question.key
        self._known: dict[str, deque[tuple[float, Proposal | Score]]] = defaultdict(deque)
        for request, seconds, answer in answers.earlier(question.key):
            self._known[request].append((seconds, answer))
        self._started = time.monotonic()

    def clock(self) -> float:
        """Returns the seconds spent on the question, including earlier runs."""
        return time.monotonic() - self._started

    async def answered(self, request: str, kind: type[Answer], ask: Callable[[], Awaitable[Answer]]) -> Answer:
        """Returns the logged answer to `request`, or asks for it and logs it."""
        if known := self._known.get(request):
            seconds, logged = known.popleft()
            assert isinstance(logged, kind)
            # Moves the clock to the time of the answer, so that a budget in seconds ends where it would have.
            self._started -= max(0.0, seconds - self.clock())
            return logged
        self._log.ask(self._key)
        answer = await ask()
        self.spent += answer.usage
        self._log.append(self._key, request, self.clock(), answer)
        return answer


def _recorded(recorder: Recorder, scorer: Scorer) -> Scorer:
    if isinstance(scorer, CriticScorer):
        return _RecordedCritic(recorder, scorer)
    return _RecordedChains(recorder, scorer) if isinstance(scorer, ChainScorer) else _RecordedScorer(recorder, scorer)


class _RecordedScorer:
    """A scorer with its scores logged by a recorder."""

    def __init__(self, recorder: Recorder, scorer: Scorer) -> None:
        self.identity = scorer.identity
        self._recorder, self._scorer = recorder, scorer

    async def score(self, path: Path) -> Score:
        """Returns the score of the last step of `path`, from the log if it is there."""
        return await self._recorder.answered(f"score {path.key}", Score, partial(self._scorer.score, path))


class _RecordedChains(_RecordedScorer):
    """A scorer of whole chains. Its readings of chains are not logged: a resumed run repeats them."""

    def __init__(self, recorder: Recorder, scorer: ChainScorer) -> None:
        super().__init__(recorder, scorer)
        self.score_chain = scorer.score_chain


class _RecordedCritic(_RecordedScorer):
    """A generative scorer with its critic's replies logged by a recorder; scores are computed from them again."""

    def __init__(self, recorder: Recorder, scorer: CriticScorer) -> None:
        super().__init__(recorder, scorer)
        self.critic: Policy = _LoggedCritic(recorder, scorer.critic)
        self.for_question = scorer.for_question
        self.summary = scorer.summary


class _RecordedPolicy:
    """The policy of one role, with its answers logged by a recorder."""

    def __init__(self, recorder: Recorder, role: str, policy: Policy) -> None:
        self.identity = policy.identity
        self._recorder, self._role, self._policy = recorder, role, policy

    async def propose(self, prompt: Prompt, n: int, sampling: Sampling) -> Proposal:
        """Returns `n` sampled replies, from the log if they are there."""
        request = request_of(self._role, prompt, n, sampling, self._recorder.images)
        return await self._recorder.answered(request, Proposal, partial(self._proposed, prompt, n, sampling))

    async def _proposed(self, prompt: Prompt, n: int, sampling: Sampling) -> Proposal:
        return (
            await self._policy.propose(prompt, n, sampling)
        ).redacted()  # replies are logged and may contain a secret


class _LoggedCritic(_RecordedPolicy):
    """The policy of a generative scorer. Its tokens are judged tokens."""

    def __init__(self, recorder: Recorder, critic: Policy) -> None:
        super().__init__(recorder, "the scorer's critic", critic)

    async def _proposed(self, prompt: Prompt, n: int, sampling: Sampling) -> Proposal:
        proposal = await super()._proposed(prompt, n, sampling)
        return replace(proposal, usage=proposal.usage.as_judged())


def request_of(role: str, prompt: Prompt, n: int, sampling: Sampling, images: Sequence[Image]) -> str:
    """Returns the name of a request, unique among the requests about a question with these images."""
    identity = repr((role, prompt_digest(prompt, images), n, sampling)).encode("utf-8", "surrogatepass")
    return f"propose {hashlib.blake2b(identity, digest_size=8).hexdigest()}"


def _answer(record: Mapping[str, Any]) -> Proposal | Score:
    usage = Usage(**record["usage"])
    if "value" in record:
        return Score(record["value"], usage, record.get("reason", ""))
    return Proposal(tuple(map(_step, record["steps"])), usage)


def _step(record: Mapping[str, Any]) -> Step:
    tops = tuple(tuple(position) for position in record["tops"])
    watched = tuple(record.get("watched", ()))
    return Step(**{**record, "token_ids": tuple(record["token_ids"]), "tops": tops, "watched": watched})
