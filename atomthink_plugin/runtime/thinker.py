"""Searches all questions of a run at the same time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from atomthink_plugin.api import Failure, Policy, Question, QuestionError, Result, Scorer, Search
from atomthink_plugin.formats import Format
from atomthink_plugin.runtime.journal import Journal
from atomthink_plugin.runtime.loop import run
from atomthink_plugin.runtime.mind import QuestionMind
from atomthink_plugin.runtime.settings import Settings

log = logging.getLogger(__name__)

OnError = Literal["record", "raise"]
"""What a question that fails does to the run: it is recorded and the others go on, or the run stops."""


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
    """

    policy: Policy
    scorer: Scorer | None
    format: Format
    search: Search
    settings: Settings
    journal: Journal | None = None
    concurrency: int = 64
    on_error: OnError = "record"

    def run(
        self, questions: Sequence[Question], finished: Callable[[Question, Result], None] | None = None
    ) -> list[Result]:
        """Answers all questions and returns their results in order.

        Args:
            questions: What to ask; those the journal knows are not asked again.
            finished: Told once per question that was asked, as soon as it is answered or failed.
        """
        return run(self.think_all(questions, finished))

    async def think_all(
        self, questions: Sequence[Question], finished: Callable[[Question, Result], None] | None = None
    ) -> list[Result]:
        """As `run`, for callers that have an event loop."""
        known = {i: done for i, q in enumerate(questions) if (done := self._known(q)) is not None}
        results: dict[int, Result] = dict(known)
        todo = ((i, question) for i, question in enumerate(questions) if i not in known)

        async def work(queue: Iterator[tuple[int, Question]]) -> None:
            for i, question in queue:
                results[i] = result = await self._attempt(question)
                if self.journal is not None:
                    self.journal.put(question, result)
                if finished is not None:
                    finished(question, result)

        workers = min(self.concurrency, len(questions) - len(known))
        tasks = [asyncio.create_task(work(todo)) for _ in range(workers)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return [results[i] for i in range(len(questions))]

    def _known(self, question: Question) -> Result | None:
        return self.journal.get(question) if self.journal is not None else None

    async def _attempt(self, question: Question) -> Result:
        mind = QuestionMind(question, self.policy, self.scorer, self.format, self.settings)
        try:
            return mind.outcome(await self.search(mind))
        except Exception as error:
            if self.on_error == "raise":
                raise
            reason = str(error) if isinstance(error, QuestionError) else f"{type(error).__name__}: {error}"
            log.warning("question %s failed: %s", question.id, reason)
            return Failure(reason, mind.usage)
