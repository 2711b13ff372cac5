"""From a question to a chain that passes all filters: tries, each warmer than the one before."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from atomthink_plugin.api import Message, QuestionError
from atomthink_plugin.training.annotate import prompts
from atomthink_plugin.training.annotate.filters import FaultError, require_format
from atomthink_plugin.training.annotate.prompts import Pictures
from atomthink_plugin.training.annotate.questions import Item
from atomthink_plugin.training.annotate.teacher import READINGS, LostError, NonsenseError, Reply, Teacher

R = TypeVar("R", bound=Reply)

_PER_TRY = 100_000  # seeds


@dataclass(frozen=True, slots=True)
class AttemptSettings:
    """How hard a question is tried.

    Attributes:
        tries: Chains that are begun.
        max_steps: Steps of a chain.
        retries: Further draws of a step that brings the chain no further; then the step before it goes as well.
        temperature: Of the first draw.
        heat: Added for every further draw and every further try, up to 1.0.
        checks: Independent opinions of the teacher that have to agree that a chain is right.
        step_tokens: The most a reply with one step may have.
        chain_tokens: The most a reply with a whole chain may have.
    """

    tries: int = 2
    max_steps: int = 25
    retries: int = 3
    temperature: float = 0.2
    heat: float = 0.3
    checks: int = 2
    step_tokens: int = 512
    chain_tokens: int = 3000


class Verdict(Reply):
    """What a check says of a chain."""

    right: bool
    reason: str = ""


@dataclass
class Try:
    """One try of one question: all its requests, each with a seed of its own.

    Attributes:
        teacher: Who is asked.
        about: Key of the question.
        settings: How hard it is tried.
        index: Tries before this one.
    """

    teacher: Teacher
    about: str
    settings: AttemptSettings
    index: int = 0
    _asked: int = field(default=0)

    async def ask(self, messages: Sequence[Message], kind: type[R], *, draws: int = 0, tokens: int) -> R:
        """Returns a reply, warmer the more draws there were before; as `Teacher.ask`."""
        warm = self.settings.temperature + self.settings.heat * (self.index + draws)
        seed = self.index * _PER_TRY + self._asked * READINGS
        self._asked += 1
        return await self.teacher.ask(
            self.about, messages, kind, temperature=round(min(warm, 1.0), 4), seed=seed, max_tokens=tokens
        )


Way = Callable[[Try, Item, Pictures], Awaitable[list[str]]]
"""Makes one chain of numbered steps; raises FaultError where it does not come to one."""


async def solve(
    teacher: Teacher, about: str, item: Item, pictures: Pictures, way: Way, settings: AttemptSettings
) -> Mapping[str, Any]:
    """Returns what a question comes to: its chain, or the faults of all tries.

    Raises:
        LostError: The server does not answer; the question is to be asked again.
        LimitError: The spending limit is reached.
    """
    faults: list[dict[str, str]] = []
    for index in range(settings.tries):
        attempt = Try(teacher, about, settings, index)
        try:
            steps = await way(attempt, item, pictures)
            await _require_right(attempt, item, pictures, steps)
        except FaultError as fault:
            faults.append(asdict(fault))
        except NonsenseError as error:
            faults.append(asdict(FaultError("teacher", "no usable reply", str(error))))
        except LostError:
            raise
        except QuestionError as error:
            return {"faults": [*faults, asdict(FaultError("teacher", "refuses the request", str(error)))]}
        else:
            return {"steps": steps, "faults": faults}
    return {"faults": faults}


async def _require_right(attempt: Try, item: Item, pictures: Pictures, steps: Sequence[str]) -> None:
    answer = require_format(steps)
    if not await asyncio.to_thread(item.right, answer):  # formulas may take seconds
        raise FaultError("answer", "another answer", f"{answer!r}, and {item.answer!r} is right")
    for which in range(attempt.settings.checks):
        asked = prompts.check(item, pictures, steps, which)
        verdict = await attempt.ask(asked, Verdict, tokens=attempt.settings.step_tokens)
        if not verdict.right:
            raise FaultError("check", "the teacher's check says it is wrong", verdict.reason)
