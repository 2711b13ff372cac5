"""Rollouts of a policy: chains from questions, and continuations of the first steps of chains.

All commands that roll out use this file: `label`, `annotate --model` and the capability task.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from atomthink_plugin.answers import count_equivalent, equivalent
from atomthink_plugin.api import Choice, Failure, Limits, Question, QuestionError, Result, Search, SearchTree, Usage
from atomthink_plugin.json_rows import Reject
from atomthink_plugin.runtime.progress import RunProgress
from atomthink_plugin.runtime.runner import Runner
from atomthink_plugin.training.records import AnsweredQuestion, Chain, RecordFile


@dataclass(frozen=True, slots=True)
class RolloutCost:
    """How many rollouts were sampled, how many of them an earlier run made, and what all cost in whichever run."""

    samples: int = 0
    resumed: int = 0
    usage: Usage = field(default_factory=Usage)

    def __add__(self, other: RolloutCost) -> RolloutCost:
        return RolloutCost(self.samples + other.samples, self.resumed + other.resumed, self.usage + other.usage)


@dataclass(frozen=True, slots=True)
class RolloutResult:
    """The result of sampling or of labelling: every sample or chain is among the chains or the rejects, in order."""

    chains: Sequence[Chain]
    rejects: Sequence[Reject]
    cost: RolloutCost


def rollout_search(n: int, answers: Mapping[str, str] | None = None) -> Search:
    """Returns a search that samples `n` independent rollouts of a question.

    The value of the outcome is the share of right rollouts if the `answers` are given by the id of the question.
    """

    async def search(tree: SearchTree) -> Choice:
        paths = await tree.rollouts(n)
        share = 0.0
        if answers is not None:
            stated = [path.answer for path in paths]
            # A thread, because comparing formulas may take seconds.
            share = await asyncio.to_thread(count_equivalent, stated, answers[tree.root.question.id]) / n
        return Choice(paths[0], share, tree.why(paths[0]))

    return search


def left_no_room(result: Result, kept: int) -> bool:
    """Returns whether the prompt and the first `kept` steps leave no room for another step."""
    return not isinstance(result, Failure) and result.stopped == "length" and len(result.steps) == kept


class PrefixSampler:
    """Samples continuations of prefixes, one by one, of all chains of one question.

    A sample is identified by the steps that are kept and its index. Chains that begin with the same steps share it, and
    the runner's journal keeps it for the next run. Every sample is a question of its own to the runner: a method
    such as OmegaPRM decides after each one whether it needs another. The runner's search follows one path; `slots`
    limits the samples in flight.
    """

    def __init__(self, question: Question, runner: Runner, slots: asyncio.Semaphore) -> None:
        self._question, self._runner, self._slots = question, runner, slots
        self._tasks: dict[tuple[tuple[str, ...], int], asyncio.Task[Result]] = {}
        self.cost = RolloutCost()

    async def count_right(self, chain: Chain, kept: int, samples: range) -> int:
        """Returns how many samples after the first `kept` steps reach the chain's answer.

        Nothing is sampled after a step that states an answer.

        Raises:
            QuestionError: A sample failed.
        """
        stated = self._runner.format.answer(chain.steps[kept - 1]) if kept else None
        if stated is not None:
            return len(samples) * await asyncio.to_thread(equivalent, stated, chain.answer)
        results = await asyncio.gather(*(self._sample(chain.steps[:kept], index) for index in samples))
        answers = [_answer(result, kept) for result in results]
        return await asyncio.to_thread(count_equivalent, answers, chain.answer)

    async def finish(self) -> None:
        """Waits for the samples of chains that failed in the meantime."""
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _sample(self, steps: tuple[str, ...], index: int) -> asyncio.Task[Result]:
        if (steps, index) not in self._tasks:
            self._tasks[steps, index] = asyncio.create_task(self._run(steps, index))
        return self._tasks[steps, index]

    async def _run(self, steps: tuple[str, ...], index: int) -> Result:
        question = Question(f"{self._question.id}/{index}", self._question.messages, history=steps)
        async with self._slots:
            # Not `think`, which raises failures instead of recording them, and does not report resumed samples.
            (result,) = await self._runner.think_all([question], self._count)
        return result

    def _count(self, result: Result, spent: Usage | None) -> None:
        self.cost += RolloutCost(1, int(spent is None), result.usage)


def _answer(result: Result, kept: int) -> str | None:
    if isinstance(result, Failure):
        raise QuestionError(f"a rollout after step {kept} failed: {result.reason}")
    if left_no_room(result, kept):
        raise QuestionError(f"the first {kept} steps leave no room for another")
    return result.answer


def sample_chains(
    questions: RecordFile[AnsweredQuestion], runner: Runner, n: int, temperature: float | None = None
) -> RolloutResult:
    """Samples `n` chains of each question. Sample `i` of question `q` has the id `q/i`.

    The search of the runner follows one path. Its own temperature is used if `temperature` is None.
    """
    cost = RolloutCost()
    samples = _Samples(questions, n, temperature)
    with RunProgress(len(samples), "samples", unit="chains") as progress:

        def finished(result: Result, spent: Usage | None) -> None:
            nonlocal cost
            cost += RolloutCost(1, int(spent is None), result.usage)
            progress.finished(result, spent)

        results = runner.run(samples, finished)
    chains: list[Chain] = []
    rejects: list[Reject] = []
    for index, result in enumerate(results):
        record, name = samples.sample(index)
        if isinstance(result, Failure) or not result.steps:
            reason = result.reason if isinstance(result, Failure) else f"no valid step ({result.stopped})"
            rejects.append(Reject(f"sample {name!r}", reason, record.model_dump()))
        else:
            common = record.model_dump(include={"question", "images", "answer"})
            chains.append(Chain(**common, id=name, steps=result.steps))
    return RolloutResult(chains, rejects, cost)


@dataclass(frozen=True, slots=True)
class _Samples:
    """All samples as questions of a runner."""

    questions: RecordFile[AnsweredQuestion]
    n: int
    temperature: float | None

    def __len__(self) -> int:
        return len(self.questions) * self.n

    def sample(self, index: int) -> tuple[AnsweredQuestion, str]:
        record = self.questions.records[index // self.n]
        return record, f"{record.id}/{index % self.n}"

    def __getitem__(self, index: int) -> Question:
        record, name = self.sample(index)
        return replace(self.questions.question(record), id=name, limits=Limits(temperature=self.temperature))
