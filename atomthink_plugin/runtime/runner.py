"""Searches all questions of a run at the same time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from atomthink_plugin.api import Failure, Outcome, Policy, Question, QuestionError, Result, Scorer, Search, Usage
from atomthink_plugin.exits import no_exit
from atomthink_plugin.formats.base import Direct, Format
from atomthink_plugin.redaction import printable
from atomthink_plugin.runtime.event_loop import run
from atomthink_plugin.runtime.journal import Journal
from atomthink_plugin.runtime.settings import Settings
from atomthink_plugin.runtime.tree import QuestionMind
from atomthink_plugin.searches.quick import quick

log = logging.getLogger(__name__)

OnError = Literal["record", "raise"]
"""What a question that fails does to the run: it is recorded and the others go on, or the run stops."""


Finished = Callable[[Result, Usage | None], None]
"""Called once per question, with its tree, as soon as it is answered or failed, and with what it cost in this run.

The cost leaves out what earlier runs spent on the question; it is None for an outcome that the journal has.
"""


class Questions(Protocol):
    """What is asked: a list, or something that builds each question when it is its turn."""

    def __len__(self) -> int:
        """Returns how many there are."""
        ...

    def __getitem__(self, index: int, /) -> Question:
        """Returns one of them, or raises QuestionError where it cannot be built."""
        ...


@dataclass(frozen=True, slots=True)
class Thinker:
    """A policy, a scorer and a search, ready to be asked.

    Attributes:
        policy: Proposes steps.
        scorer: Scores them; None for searches that do without.
        format: How the policy is asked.
        search: Decides.
        settings: Limits and sampling.
        journal: Where finished questions are kept; None to keep nothing.
        concurrency: Questions in flight at most.
        on_error: What a failing question does.
        trees: Whether the returned outcomes keep their trees: those of thousands of questions may not fit in memory.
    """

    policy: Policy
    scorer: Scorer | None
    format: Format
    search: Search
    settings: Settings
    journal: Journal | None = None
    concurrency: int = 64
    on_error: OnError = "record"
    trees: bool = False

    def run(self, questions: Questions, finished: Finished = lambda result, spent: None) -> list[Result]:
        """Answers all questions and returns their results in order; those the journal knows are not asked again."""
        return run(self.think_all(questions, finished))

    async def think_all(self, questions: Questions, finished: Finished = lambda result, spent: None) -> list[Result]:
        """As `run`, for callers that have an event loop."""
        results: dict[int, Result] = {}
        todo = iter(range(len(questions)))
        building = asyncio.Lock()

        async def work(queue: Iterator[int]) -> None:
            for i in queue:
                result = await self._answer(questions, i, finished, building)
                results[i] = result if self.trees or not isinstance(result, Outcome) else _bare(result)

        tasks = [asyncio.create_task(work(todo)) for _ in range(min(self.concurrency, len(questions)))]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return [results[i] for i in range(len(questions))]

    async def _answer(self, questions: Questions, index: int, finished: Finished, building: asyncio.Lock) -> Result:
        """Takes one question from the journal or thinks about it; what cannot be built is not journaled."""
        try:
            # A large image takes seconds to decode. One at a time: the code of tasks is not made for several threads.
            async with building:
                question = await asyncio.to_thread(questions.__getitem__, index)
        except QuestionError as error:
            if self.on_error == "raise":
                raise
            log.warning("%s", error)
            failure = Failure(str(error))
            finished(failure, failure.usage)
            return failure
        known = self.journal.get(question) if self.journal is not None else None
        if known is not None:
            finished(known, None)
            return known
        if self.journal is None:
            mind = QuestionMind(question, self.policy, self.scorer, self.format, self.settings)
            result = await self._attempt(mind)
            spent = result.usage
        else:
            result, spent = await self._journaled(question, self.journal)
        finished(result, spent)
        return result

    async def _journaled(self, question: Question, journal: Journal) -> tuple[Result, Usage]:
        """Thinks about a question, going on from what a killed run had of it, and writes the result down.

        Returns:
            The result, and what it cost in this run.
        """
        models = journal.recorder(question, self.policy, self.scorer)
        scorer = None if self.scorer is None else models
        mind = QuestionMind(question, models, scorer, self.format, self.settings, clock=models.clock)
        if question.images:  # a thumbnail takes tens of milliseconds: a thread makes them while the models think
            pictures = asyncio.to_thread(journal.thumbnails.keep, question.images)
            result, _ = await asyncio.gather(self._attempt(mind), pictures)
        else:
            result = await self._attempt(mind)
        journal.put(question, result)
        return result, models.spent

    async def _attempt(self, mind: QuestionMind) -> Result:
        question, search = mind.question, self.search
        if question.direct:
            mind, search = replace(mind, scorer=None, format=Direct()), quick()
        try:
            if question.history and not mind.format.stepwise:
                raise QuestionError("it gives steps to go on from, which thinking=direct and thinking=cot cannot do")
            with no_exit("the search"):
                return mind.outcome(await search(mind))
        except Exception as error:
            if self.on_error == "raise":
                raise
            reason = str(error) if isinstance(error, QuestionError) else printable(f"{type(error).__name__}: {error}")
            log.warning("question %s failed: %s", question.id, reason)
            return Failure(reason, mind.usage)


def _bare(outcome: Outcome) -> Outcome:
    """Returns it without its tree."""
    return replace(outcome, nodes=(), rollouts=())
