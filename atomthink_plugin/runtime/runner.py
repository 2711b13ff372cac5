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
from atomthink_plugin.runtime.journal import Journal
from atomthink_plugin.runtime.settings import Settings
from atomthink_plugin.runtime.tree import QuestionTree
from atomthink_plugin.searches.quick import quick

log = logging.getLogger(__name__)

OnError = Literal["record", "raise"]
"""What a question that fails does to the run: it is recorded and the others go on, or the run stops."""


Finished = Callable[[Result, Usage | None], None]
"""Called once per question, with its tree, as soon as it is answered or failed, and with what it cost in this run.

The cost leaves out what earlier runs spent on the question; it is None for an outcome that the journal has.
"""


OnNode = Callable[[Node], None]
"""Called with a node of a question's tree while the search goes on."""


class Questions(Protocol):
    """What is asked: a list, or something that builds each question when it is its turn."""

    def __len__(self) -> int:
        """Returns how many there are."""
        ...

    def __getitem__(self, index: int, /) -> Question:
        """Returns one of them, or raises QuestionError where it cannot be built."""
        ...


@dataclass(frozen=True, slots=True)
class Runner:
    """Policies, a scorer and a search, ready to be asked.

    Attributes:
        policy: Proposes steps.
        scorer: Scores them; None for searches that do without.
        format: How the policy is asked.
        search: Decides.
        settings: Limits and sampling.
        journal: Where finished questions are kept; None to keep nothing.
        concurrency: Questions in flight at most.
        on_error: What a failing question does.
        roles: Further policies that the search asks, by role.
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
    roles: Mapping[str, Policy] = field(default_factory=dict)
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

        await together(*(work(todo) for _ in range(min(self.concurrency, len(questions)))))
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
        result, spent = await self._result(question)
        finished(result, spent)
        return result

    async def think(self, question: Question, on_node: OnNode | None = None) -> Outcome:
        """Answers one question.

        Args:
            question: The question.
            on_node: Called with each node of the tree as soon as it is there, and again when it is scored. Not called
                for a question that the journal knows.

        Returns:
            The outcome, with its tree.

        Raises:
            QuestionError: The question cannot be asked.
        """
        known = self.journal.get(question) if self.journal is not None else None
        if known is not None:
            return known
        result, _ = await replace(self, on_error="raise")._result(question, on_node)
        assert isinstance(result, Outcome)  # failures are raised
        return result

    async def _result(self, question: Question, on_node: OnNode | None = None) -> tuple[Result, Usage]:
        """Thinks about a question and writes down what came of it.

        Returns:
            The result, and what it cost in this run: a killed run may have begun it.
        """
        policies = {"policy": self.policy, **self.roles}
        if self.journal is None:
            result = await self._attempt(question, policies, self.scorer, time.monotonic, on_node)
            return result, result.usage
        models = self.journal.recorder(question, policies, self.scorer)
        scorer = None if self.scorer is None else models
        attempt = self._attempt(question, models.policies, scorer, models.clock, on_node)
        if question.images:  # a thumbnail takes tens of milliseconds: a thread makes them while the models think
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
            tree = QuestionTree(question, policies, scorer, format, self.settings, clock, on_node)
            with no_exit("the search"):
                return tree.outcome(await search(tree))
        except Exception as error:
            if self.on_error == "raise":
                raise
            reason = str(error) if isinstance(error, AtomThinkError) else printable(f"{type(error).__name__}: {error}")
            log.warning("question %s failed: %s", question.id, reason)
            return Failure(reason, tree.usage if tree is not None else Usage())
        finally:
            if tree is not None:
                await tree.close()


def _bare(outcome: Outcome) -> Outcome:
    """Returns it without its tree."""
    return replace(outcome, nodes=(), rollouts=())
