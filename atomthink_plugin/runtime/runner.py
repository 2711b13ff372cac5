"""Searches all questions of a run at the same time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from atomthink_plugin.api import (
    AtomThinkError,
    CriticScorer,
    Failure,
    Format,
    Node,
    Outcome,
    Policy,
    Question,
    QuestionError,
    Result,
    Scorer,
    Search,
    Usage,
)
from atomthink_plugin.exits import no_exit
from atomthink_plugin.formats.direct import Direct
from atomthink_plugin.redaction import printable
from atomthink_plugin.runtime.event_loop import run, together
from atomthink_plugin.runtime.format_calls import format_for
from atomthink_plugin.runtime.journal import Journal
from atomthink_plugin.runtime.settings import Settings
from atomthink_plugin.runtime.tree import QuestionTree
from atomthink_plugin.searches.quick import quick

log = logging.getLogger(__name__)

OnError = Literal["record", "raise"]
"""The effect of a failing question: "record" records it and continues, "raise" stops the run."""


Finished = Callable[[Result, Usage | None], None]
"""Called once per question, as soon as it is answered or has failed, with the result (and its tree) and the cost.

The cost is that of this run, without earlier runs. It is None for an outcome from the journal.
"""


OnNode = Callable[[Node], None]
"""Called with a node of a question's tree during the search."""


class Questions(Protocol):
    """The questions of a run: a list, or an object that builds each question when it is needed."""

    def __len__(self) -> int:
        """Returns the number of questions."""
        ...

    def __getitem__(self, index: int, /) -> Question:
        """Returns a question, or raises QuestionError if it cannot be built."""
        ...


@dataclass(frozen=True, slots=True)
class Runner:
    """Answers questions with loaded policies, a scorer and a search.

    Attributes:
        policy: Proposes steps.
        scorer: Scores steps, None for searches without a scorer.
        format: Renders prompts and reads answers.
        search: The search.
        settings: Limits and sampling.
        journal: Stores finished questions, None to store nothing.
        concurrency: The largest number of questions in flight.
        on_error: The effect of a failing question.
        roles: Further policies for the search, by role.
        trees: Whether the returned outcomes keep their trees. The trees of thousands of questions may not fit in
            memory.
    """

    policy: Policy
    scorer: Scorer | None
    format: Format
    search: Search
    settings: Settings
    journal: Journal | None = None
    concurrency: int = 64
    on_error: OnError = "record"
    roles: Mapping[str, Policy] = field(default_factory=dict)
    trees: bool = False

    def run(self, questions: Questions, finished: Finished = lambda result, spent: None) -> list[Result]:
        """Answers all questions and returns their results in order. Outcomes in the journal are reused."""
        return run(self.think_all(questions, finished))

    async def think_all(self, questions: Questions, finished: Finished = lambda result, spent: None) -> list[Result]:
        """Does the same as `run`, for callers with an event loop."""
        results: dict[int, Result] = {}
        todo = iter(range(len(questions)))
        building = asyncio.Lock()

        async def work(queue: Iterator[int]) -> None:
            for i in queue:
                result = await self._answer(questions, i, finished, building)
                results[i] = result if self.trees or not isinstance(result, Outcome) else _bare(result)

        await together(*(work(todo) for _ in range(min(self.concurrency, len(questions)))))
        if isinstance(self.scorer, CriticScorer) and (summary := self.scorer.summary()):
            log.warning("%s: %s", self.scorer.critic.identity, summary)
        return [results[i] for i in range(len(questions))]

    async def _answer(self, questions: Questions, index: int, finished: Finished, building: asyncio.Lock) -> Result:
        """Answers a question or returns its outcome from the journal. Build errors are not recorded."""
        try:
            # Decoding a large image takes seconds. One at a time, because the code of tasks is not thread-safe.
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
        result, spent = await self._result(question)
        finished(result, spent)
        return result

    async def think(self, question: Question, on_node: OnNode | None = None) -> Outcome:
        """Answers one question.

        Args:
            question: The question.
            on_node: Called with each new node of the tree, and again when it is scored. Not called for a question
                that is in the journal.

        Returns:
            The outcome, with its tree.

        Raises:
            QuestionError: The question cannot be answered.
        """
        known = self.journal.get(question) if self.journal is not None else None
        if known is not None:
            return known
        result, _ = await replace(self, on_error="raise")._result(question, on_node)
        assert isinstance(result, Outcome)  # failures are raised
        return result

    async def _result(self, question: Question, on_node: OnNode | None = None) -> tuple[Result, Usage]:
        """Searches a question and records the result.

        Returns:
            The result and its cost in this run, without the cost of earlier runs that were killed.
        """
        policies = {"policy": self.policy, **self.roles}
        if self.journal is None:
            result = await self._attempt(question, policies, self.scorer, time.monotonic, on_node)
            return result, result.usage
        models = self.journal.recorder(question, policies, self.scorer)
        attempt = self._attempt(question, models.policies, models.scorer, models.clock, on_node)
        if question.images:  # thumbnails take tens of milliseconds, so a thread makes them during the search
            pictures = asyncio.to_thread(self.journal.thumbnails.keep, question.images)
            result, _ = await asyncio.gather(attempt, pictures)
        else:
            result = await attempt
        self.journal.put(question, result)
        return result, models.spent

    async def _attempt(
        self,
        question: Question,
        policies: Mapping[str, Policy],
        scorer: Scorer | None,
        clock: Callable[[], float],
        on_node: OnNode | None,
    ) -> Result:
        format, search = (Direct(), quick()) if question.direct else (self.format, self.search)
        tree: QuestionTree | None = None
        try:
            if not question.text.strip():
                raise QuestionError("the question has no text")
            format = await format_for(format, question, self.policy)
            tree = QuestionTree(question, policies, scorer, format, self.settings, clock, on_node)
            with no_exit("the search"):
                return tree.outcome(await search(tree))
        except Exception as error:
            if self.on_error == "raise":
                raise
            reason = str(error) if isinstance(error, AtomThinkError) else printable(f"{type(error).__name__}: {error}")
            log.warning("Question %s failed: %s", question.id, reason)
            return Failure(reason, tree.usage if tree is not None else Usage())
        finally:
            if tree is not None:
                await tree.close()


def _bare(outcome: Outcome) -> Outcome:
    """Returns the outcome without its tree."""
    return replace(outcome, nodes=(), rollouts=())
