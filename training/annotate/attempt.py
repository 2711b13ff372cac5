"""Attempts at questions: each asks the teacher for one chain. Many questions are worked on at the same time."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, TypeVar

from atomthink_plugin.api import AtomThinkError, Message, QuestionError
from atomthink_plugin.runtime.progress import RunProgress
from atomthink_plugin.training.annotate import prompts
from atomthink_plugin.training.annotate.budget import LimitError, SpendingBudget
from atomthink_plugin.training.annotate.filters import AttemptError, RefusedAttemptError
from atomthink_plugin.training.annotate.ledger import Ledger
from atomthink_plugin.training.annotate.teacher import (
    MAX_REPLIES,
    NoReplyError,
    Teacher,
    TeacherReply,
    UnusableReplyError,
)
from atomthink_plugin.training.records import QuestionRecord
from atomthink_plugin.version import __version__

Q = TypeVar("Q", bound=QuestionRecord)
R = TypeVar("R", bound=TeacherReply)

MAX_UNANSWERED: Final = 20
"""Questions in a row without a reply after which the run ends."""

Result = Mapping[str, Any]
"""The result of a question, as it is stored in the ledger."""

Work = Callable[[Q, "Sequence[Attempt]"], Awaitable[Result]]
"""Makes attempts at a question until one succeeds."""

_SEEDS_PER_ATTEMPT: Final = 100_000


@dataclass(frozen=True, slots=True)
class AttemptSettings:
    """Settings of attempts. All of them change the results, and so the keys of the ledger.

    Attributes:
        tries: Attempts per question.
        max_steps: Maximum number of steps of a chain.
        retries: Further samples of a step that adds nothing, before the step in front of it is removed as well.
        temperature: Sampling temperature of the first sample.
        heat: Added to the temperature for each further sample and attempt, up to 1.0.
        checks: Number of checks by the teacher that a chain has to pass.
        step_tokens: Token limit of a reply with one step.
        chain_tokens: Token limit of a reply with a whole chain.
    """

    tries: int = 2
    max_steps: int = 25
    retries: int = 3
    temperature: float = 0.2
    heat: float = 0.3
    checks: int = 2
    step_tokens: int = 512
    chain_tokens: int = 3000


@dataclass
class Attempt:
    """One attempt at a question, which is named by its key in the ledger. `index` attempts were made before."""

    teacher: Teacher
    question: str
    settings: AttemptSettings
    index: int
    _requests: int = 0

    async def ask(self, messages: Sequence[Message], kind: type[R], *, samples: int = 0, max_tokens: int) -> R:
        """Returns a reply, as `Teacher.ask`. The temperature rises with the number of samples before this one.

        Raises:
            AttemptError: The teacher gives no usable reply, or refuses the request.
            NoReplyError: The server does not answer.
            LimitError: The budget is spent.
        """
        warm = self.settings.temperature + self.settings.heat * (self.index + samples)
        temperature = round(min(warm, 1.0), 4)
        seed = self.index * _SEEDS_PER_ATTEMPT + self._requests * MAX_REPLIES
        self._requests += 1
        try:
            return await self.teacher.ask(
                self.question, messages, kind, temperature=temperature, seed=seed, max_tokens=max_tokens
            )
        except UnusableReplyError as error:
            raise AttemptError("teacher", "no usable reply", str(error)) from None
        except NoReplyError:
            raise
        except QuestionError as error:
            raise RefusedAttemptError("teacher", "refuses the request", str(error)) from None


@dataclass
class QuestionPool:
    """Works on questions until all are finished, the budget is spent, or the server is lost.

    Each question is finished once, in this run or in an earlier one of the same ledger.

    Attributes:
        concurrency: Questions at the same time.
        limit: The limit that ended the run; empty if none did.
        error: The error that ended the run; empty if none did.
    """

    ledger: Ledger
    budget: SpendingBudget
    teacher: Teacher
    method: str
    settings: AttemptSettings
    concurrency: int
    limit: str = ""
    error: str = ""
    _unanswered_in_a_row: int = 0
    _tokens: int = 0

    async def finish(self, records: Sequence[Q], work: Work[Q]) -> list[tuple[Q, Result | AttemptError]]:
        """Finishes as many questions as possible. Returns each with its result, or with the reason for having none."""
        results: dict[str, Result | AttemptError] = {
            self._key(record): AttemptError("unfinished", "the run ended early") for record in records
        }
        self._tokens = self.budget.spent.completion
        queue = iter(list(zip(results, records, strict=True)))
        with RunProgress(len(records), f"annotate ({self.method})") as progress:

            async def take_from_queue() -> None:
                while not (self.limit or self.error) and (item := next(queue, None)):
                    if (result := await self._result(*item, work, progress)) is not None:
                        results[item[0]] = result

            await asyncio.gather(*(take_from_queue() for _ in range(min(self.concurrency, len(records)))))
        return list(zip(records, results.values(), strict=True))

    async def _result(self, key: str, record: Q, work: Work[Q], progress: RunProgress) -> Result | AttemptError | None:
        """Returns the result of a question, None if it ends the run."""
        stored = self.ledger.finished.get(key)
        attempts = [Attempt(self.teacher, key, self.settings, index) for index in range(self.settings.tries)]
        try:
            result = stored if stored is not None else await work(record, attempts)
        except NoReplyError as error:
            self._unanswered_in_a_row += 1
            if self._unanswered_in_a_row >= MAX_UNANSWERED:
                self.error = f"{error}. {MAX_UNANSWERED} questions in a row got no reply"
            progress.advance(failed=True)
            return AttemptError("server", "no reply", str(error))
        except LimitError as error:
            self.limit = str(error)
            return None
        except AtomThinkError as error:
            self.error = str(error)
            return None
        if stored is None:
            self.ledger.finish(key, result)
            self._unanswered_in_a_row = 0
        tokens, self._tokens = self.budget.spent.completion - self._tokens, self.budget.spent.completion
        has_chains = bool(result.get("steps") or result.get("pairs"))
        progress.advance(amount=tokens, resumed=stored is not None, failed=not has_chains)
        return result

    def _key(self, record: QuestionRecord) -> str:
        """Returns the key of a record in the ledger, with a digest of all that changes its result.

        Ledgers of earlier versions are continued, so this stays as it is, with "wrong" for the method "corrupt".
        """
        corrupt = self.method == "corrupt"
        options = {"way": "wrong" if corrupt else self.method, "teacher": self.teacher.model, **asdict(self.settings)}
        return f"{record.id}#{_digest([options if corrupt else _digest(options), record.model_dump()])}"


def _digest(content: Any) -> str:
    text = json.dumps([__version__, prompts.FINGERPRINT, content], sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
