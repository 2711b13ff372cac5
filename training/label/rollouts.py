"""Rollouts from prefixes of chains on the engine: each is a question of its own, and asked once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from atomthink_plugin.answers import count_equivalent, equivalent
from atomthink_plugin.api import Failure, Question, QuestionError, Result, Usage
from atomthink_plugin.runtime.runner import Runner
from atomthink_plugin.training.records import Chain


@dataclass(frozen=True, slots=True)
class Spent:
    """What was sampled.

    Attributes:
        samples: How many rollouts or chains.
        resumed: Those of them that an earlier run had made.
        usage: What all of them cost, in whichever run.
    """

    samples: int = 0
    resumed: int = 0
    usage: Usage = field(default_factory=Usage)

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.samples + other.samples, self.resumed + other.resumed, self.usage + other.usage)


class Roller:
    """Samples from the prefixes of all chains of one question.

    A sample is known by the steps that are kept and its index: chains that begin alike share it, and the runner's
    journal has it for the next run.

    Args:
        question: What the chains answer, without steps.
        runner: The policy, its settings and the journal; its search follows one path.
        free: Lets as many samples be in flight as there may be.
    """

    def __init__(self, question: Question, runner: Runner, free: asyncio.Semaphore) -> None:
        self._question, self._runner, self._free = question, runner, free
        self._asked: dict[tuple[tuple[str, ...], int], asyncio.Task[Result]] = {}
        self.spent = Spent()

    async def right(self, chain: Chain, kept: int, samples: range) -> int:
        """Returns how many samples from behind the first `kept` steps reach the chain's answer.

        Nothing is sampled from behind a step that states an answer.

        Raises:
            QuestionError: A sample could not be drawn; says why.
        """
        stated = self._runner.format.answer(chain.steps[kept - 1]) if kept else None
        if stated is not None:
            return len(samples) * await asyncio.to_thread(equivalent, stated, chain.answer)
        results = await asyncio.gather(*(self._sample(chain.steps[:kept], index) for index in samples))
        answers = [_answer(result, kept) for result in results]
        return await asyncio.to_thread(count_equivalent, answers, chain.answer)  # formulas may take seconds

    async def finish(self) -> None:
        """Waits for samples that nobody waits for any more, their chain having failed."""
        await asyncio.gather(*self._asked.values(), return_exceptions=True)

    def _sample(self, steps: tuple[str, ...], index: int) -> asyncio.Task[Result]:
        if (steps, index) not in self._asked:
            self._asked[steps, index] = asyncio.create_task(self._ask(steps, index))
        return self._asked[steps, index]

    async def _ask(self, steps: tuple[str, ...], index: int) -> Result:
        question = Question(f"{self._question.id}/{index}", self._question.messages, history=steps)
        async with self._free:
            (result,) = await self._runner.think_all([question], self._count)
        return result

    def _count(self, result: Result, cost: Usage | None) -> None:
        self.spent += Spent(1, int(cost is None), result.usage)


def _answer(result: Result, kept: int) -> str | None:
    """Returns what a sample concludes with, None if it does not."""
    if isinstance(result, Failure):
        raise QuestionError(f"a rollout from behind step {kept} failed: {result.reason}")
    if result.stopped == "length" and len(result.steps) == kept:
        raise QuestionError(f"the first {kept} steps leave no room for another")
    return result.answer
