"""Attempts at a question: each asks the teacher for a chain, and the chain has to pass all filters."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ConfigDict

from atomthink_plugin.api import Message, QuestionError
from atomthink_plugin.training.annotate import prompts
from atomthink_plugin.training.annotate.filters import AttemptError, RefusedAttemptError, require_format
from atomthink_plugin.training.annotate.prompts import Images
from atomthink_plugin.training.annotate.teacher import (
    MAX_REPLIES,
    NoReplyError,
    Teacher,
    TeacherReply,
    UnusableReplyError,
)
from atomthink_plugin.training.records import AnsweredQuestion, read_images

R = TypeVar("R", bound=TeacherReply)

_SEEDS_PER_ATTEMPT = 100_000


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


class ChainCheck(TeacherReply):
    """What a check says of a chain."""

    model_config = ConfigDict(
        title="Verdict"
    )  # part of each request: another title would ask old ledgers' requests again

    right: bool
    reason: str = ""


@dataclass
class Attempt:
    """One attempt at a question.

    Attributes:
        teacher: The teacher.
        question: Key of the question.
        settings: Settings.
        index: Number of attempts before this one.
    """

    teacher: Teacher
    question: str
    settings: AttemptSettings
    index: int = 0
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


WriteChain = Callable[[Attempt, AnsweredQuestion, Images], Awaitable[list[str]]]
"""Asks for one chain of numbered steps. Raises AttemptError if there is none."""


async def annotate_question(
    teacher: Teacher,
    key: str,
    record: AnsweredQuestion,
    folder: Path,
    write_chain: WriteChain,
    settings: AttemptSettings,
) -> Mapping[str, Any]:
    """Returns the result of a question for the ledger: its steps if there is a chain, and the faults of all attempts.

    Raises:
        NoReplyError: The server does not answer; another run may finish the question.
        LimitError: The budget is spent.
    """
    images = read_images(record, folder)
    faults: list[dict[str, str]] = []
    for index in range(settings.tries):
        attempt = Attempt(teacher, key, settings, index)
        try:
            steps = await write_chain(attempt, record, images)
            await _require_right(attempt, record, images, steps)
            return {"steps": steps, "faults": faults}
        except AttemptError as fault:
            faults.append(asdict(fault))
            if isinstance(fault, RefusedAttemptError):
                break
    return {"faults": faults}


async def _require_right(attempt: Attempt, record: AnsweredQuestion, images: Images, steps: Sequence[str]) -> None:
    answer = require_format(steps)
    if not await asyncio.to_thread(record.is_right, answer):  # comparing formulas may take seconds
        raise AttemptError("answer", "wrong final answer", f"{answer!r} instead of {record.answer!r}")
    for which in range(attempt.settings.checks):
        messages = prompts.chain_check(record, images, steps, which)
        reply = await attempt.ask(messages, ChainCheck, max_tokens=attempt.settings.step_tokens)
        if not reply.right:
            raise AttemptError("check", "the teacher's check says it is wrong", reply.reason)
