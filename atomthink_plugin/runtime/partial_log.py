"""What the models answered about unfinished questions, so that a killed search repeats only what was in flight.

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
from functools import partial
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple, TypeVar

from atomthink_plugin.api import (
    AtomThinkError,
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
from atomthink_plugin.runtime.files import write_all, write_atomically
from atomthink_plugin.runtime.records import decode, encode, lines
from atomthink_plugin.runtime.requests import prompt_digest

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)

Answer = TypeVar("Answer", Proposal, Score)

_SLACK: Final = 4 << 20
"""Bytes of finished questions that a file may have before it is rewritten without them."""


class _Place(NamedTuple):
    file: FilePath
    start: int
    size: int


class PartialLog:
    """Answers about the questions that are under way or failed, one append-only file per process.

    Answers are not synced to the disk one by one: a process that is killed loses none, a machine that crashes loses
    the last seconds. A question's answers are dropped when it is finished. A file that cannot be read or written is
    not used, with a warning.

    Args:
        folder: The journal's folder.
        rank: Index of this process; the answers of all processes are read.
        finished: Keys of finished questions.
    """

    def __init__(self, folder: FilePath, rank: int, finished: Container[str]) -> None:
        self._own = folder / f"partial_rank{rank}.jsonl"
        self._places: dict[str, list[_Place]] = defaultdict(list)
        self._asked: set[str] = set()
        self._dropped = self._size = 0
        self._file: BinaryIO | None = None
        try:
            for file in sorted(folder.glob("partial_rank*.jsonl")):
                if file.is_file():
                    try:
                        self._scan(file, finished)
                    except AtomThinkError as error:
                        log.warning("%s; the models are asked again for the answers in it", error)
            self._open()
        except OSError as error:
            self._give_up(error)
        if self._size:
            self.rewrite()

    def earlier(self, key: str) -> Iterator[tuple[str, float, Proposal | Score]]:
        """Yields what was answered about a question: the request, the question's seconds so far, the answer."""
        for place in self._places.get(key, ()):
            try:
                with place.file.open("rb") as file:
                    file.seek(place.start)
                    record = decode(file.read(place.size))
                found = record["request"], record["seconds"], _answer(record["answer"])
            except (OSError, ValueError, KeyError, TypeError):
                continue  # rewritten by another process, or of an older version: the models are asked again
            if record["key"] == key:
                yield found

    def ask(self, key: str) -> None:
        """Notes that the models are asked about a question, not the log alone."""
        self._asked.add(key)

    def append(self, key: str, request: str, seconds: float, answer: Proposal | Score) -> None:
        """Logs an answer."""
        if self._file is None:
            return
        record = {"key": key, "request": request, "seconds": seconds, "answer": answer}
        line = encode(record, errors="surrogatepass")
        try:
            write_all(self._file, line)
        except OSError as error:
            self._give_up(error)
            return
        self._places[key].append(_Place(self._own, self._size, len(line)))
        self._size += len(line)

    def finish(self, key: str) -> None:
        """Drops the answers about a question that is finished."""
        self._asked.discard(key)
        self._dropped += sum(place.size for place in self._places.pop(key, ()) if place.file == self._own)
        if self._dropped > max(_SLACK, self._size // 2):
            self.rewrite()

    def fail(self, key: str) -> None:
        """Keeps the answers about a question that failed, unless they alone made it fail."""
        if key not in self._asked:
            self.finish(key)
        self._asked.discard(key)

    def rewrite(self) -> None:
        """Writes this process's file again, in its place, without what was dropped."""
        if self._file is None:
            return
        moved: dict[str, list[_Place]] = defaultdict(list)
        try:
            write_atomically(self._own, self._kept(self._file, moved))
            self._file.close()
            self._open()
        except OSError as error:
            self._give_up(error)
            return
        self._places, self._dropped = moved, 0

    def close(self) -> None:
        """Closes this process's file, and deletes it where it has nothing that a later run needs."""
        if self._file is None:
            return
        self._file.close()
        self._file = None  # chains of a failed question may still be under way
        if not any(place.file == self._own for places in self._places.values() for place in places):
            self._own.unlink(missing_ok=True)

    def _scan(self, file: FilePath, finished: Container[str]) -> None:
        for line in lines(file):
            try:
                key = line.record()["key"]
                known = key in finished
            except (ValueError, KeyError, TypeError):
                continue  # a killed process's half-written last line, or not ours
            if not known:
                self._places[key].append(_Place(file, line.start, len(line.content)))

    def _open(self) -> None:
        self._file = self._own.open("a+b", buffering=0)
        self._size = self._file.seek(0, 2)

    def _kept(self, file: BinaryIO, moved: dict[str, list[_Place]]) -> Iterator[bytes]:
        """Yields the lines of `file` that are needed, and notes all places as they will be."""
        size = 0
        for key, places in self._places.items():
            for place in places:
                if place.file != self._own:
                    moved[key].append(place)
                    continue
                file.seek(place.start)
                yield file.read(place.size)
                moved[key].append(_Place(self._own, size, place.size))
                size += place.size

    def _give_up(self, error: OSError) -> None:
        log.warning("%s cannot be written (%s): a killed run would begin questions from the start", self._own, error)
        if self._file is not None:
            self._file.close()
        self._file = None


class Recorder:
    """Logs the models' answers about one question, and answers from the log what was asked before.

    Implements `Scorer`; its `policies` implement `Policy`.

    Attributes:
        policies: By role; they answer from the log, or ask the given policies.
        spent: What the models' answers cost in this run; answers from the log are left out.
        images: The question's.

    Args:
        answers: The log.
        question: The question.
        policies: By role; they propose what is not in the log.
        scorer: Scores what is not in the log; None for searches that do without.
    """

    def __init__(
        self, answers: PartialLog, question: Question, policies: Mapping[str, Policy], scorer: Scorer | None
    ) -> None:
        self.identity = scorer.identity if scorer is not None else ""
        self.policies = {role: _RecordedPolicy(self, role, policy) for role, policy in policies.items()}
        self.spent = Usage()
        self.images = question.images
        self._log, self._key = answers, question.key
        self._scorer = scorer
        self._known: dict[str, deque[tuple[float, Proposal | Score]]] = defaultdict(deque)
        for request, seconds, answer in answers.earlier(question.key):
            self._known[request].append((seconds, answer))
        self._started = time.monotonic()

    def clock(self) -> float:
        """Returns the seconds that were spent on the question, those of earlier runs included."""
        return time.monotonic() - self._started

    async def score(self, path: Path) -> Score:
        """Scores the last step of `path`, or returns the score it was given before."""
        assert self._scorer is not None
        return await self.answered(f"score {path.key}", Score, partial(self._scorer.score, path))

    async def answered(self, request: str, kind: type[Answer], ask: Callable[[], Awaitable[Answer]]) -> Answer:
        """Returns the logged answer to `request`, or asks for it and logs it."""
        if known := self._known.get(request):
            seconds, logged = known.popleft()
            assert isinstance(logged, kind)
            # It is as late as it was when the answer came, so that a budget in seconds ends where it would have.
            self._started -= max(0.0, seconds - self.clock())
            return logged
        self._log.ask(self._key)
        answer = await ask()
        self.spent += answer.usage
        self._log.append(self._key, request, self.clock(), answer)
        return answer


class _RecordedPolicy:
    """One role's policy, whose answers a recorder logs."""

    def __init__(self, recorder: Recorder, role: str, policy: Policy) -> None:
        self.identity = policy.identity
        self._recorder, self._role, self._policy = recorder, role, policy

    async def propose(self, prompt: Prompt, n: int, sampling: Sampling) -> Proposal:
        """Samples `n` replies, or returns those that were sampled before."""
        request = request_of(self._role, prompt, n, sampling, self._recorder.images)
        return await self._recorder.answered(request, Proposal, partial(self._proposed, prompt, n, sampling))

    async def _proposed(self, prompt: Prompt, n: int, sampling: Sampling) -> Proposal:
        return (await self._policy.propose(prompt, n, sampling)).redacted()  # a reply may echo a key, and is logged


def request_of(role: str, prompt: Prompt, n: int, sampling: Sampling, images: Sequence[Image]) -> str:
    """Returns the name of a request: no other request about the same question, whose images are given, has it."""
    identity = repr((role, prompt_digest(prompt, images), n, sampling)).encode("utf-8", "surrogatepass")
    return f"propose {hashlib.blake2b(identity, digest_size=8).hexdigest()}"


def _answer(record: Mapping[str, Any]) -> Proposal | Score:
    usage = Usage(**record["usage"])
    if "value" in record:
        return Score(record["value"], usage)
    return Proposal(tuple(map(_step, record["steps"])), usage)


def _step(record: Mapping[str, Any]) -> Step:
    tops = tuple(tuple(position) for position in record["tops"])
    return Step(**{**record, "token_ids": tuple(record["token_ids"]), "tops": tops})
