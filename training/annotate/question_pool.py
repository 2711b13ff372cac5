"""Works on many questions at the same time. Each question is finished once, in this run or in an earlier one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.runtime.progress import RunProgress
from atomthink_plugin.training.annotate.budget import LimitError, SpendingBudget
from atomthink_plugin.training.annotate.filters import AttemptError
from atomthink_plugin.training.annotate.ledger import Ledger
from atomthink_plugin.training.annotate.teacher import NoReplyError

MAX_UNANSWERED: Final = 20
"""Questions in a row without a reply after which the run ends."""

Work = Callable[[], Awaitable[Mapping[str, Any]]]
"""Returns the result of one question for the ledger."""


@dataclass
class QuestionPool:
    """Works on questions until all are finished, the budget is spent, or the server is lost.

    Attributes:
        ledger: Has the results of earlier runs, and gets those of this one.
        budget: Pays the calls.
        concurrency: Questions at the same time.
        label: Text before the progress.
        results: Results of finished questions, by key; also those of earlier runs.
        unanswered: Why the server gave no reply, by key.
        limit: The limit that ended the run; empty if none did.
        error: The error that ended the run; empty if none did.
    """

    ledger: Ledger
    budget: SpendingBudget
    concurrency: int
    label: str
    results: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    unanswered: dict[str, str] = field(default_factory=dict)
    limit: str = ""
    error: str = ""
    _tokens: int = 0
    _in_a_row: int = 0

    async def finish(self, work: Mapping[str, Work]) -> None:
        """Finishes as many questions as the budget and the server allow.

        Args:
            work: The work of each question by its key, which has a digest of all that changes the result.
        """
        queue = iter(work.items())
        self._tokens = self.budget.spent.completion
        with RunProgress(len(work), self.label) as progress:
            await asyncio.gather(*(self._finish(queue, progress) for _ in range(min(self.concurrency, len(work)))))

    async def _finish(self, queue: Iterator[tuple[str, Work]], progress: RunProgress) -> None:
        while not (self.limit or self.error) and (item := next(queue, None)):
            key, work = item
            stored = self.ledger.finished.get(key)
            try:
                result = stored if stored is not None else await work()
            except LimitError as error:
                self.limit = str(error)
            except NoReplyError as error:
                self.unanswered[key] = str(error)
                self._in_a_row += 1
                if self._in_a_row >= MAX_UNANSWERED:
                    self.error = f"{error}. {MAX_UNANSWERED} questions in a row got no reply"
                progress.advance(failed=True)
            except AtomThinkError as error:
                self.error = str(error)
            else:
                if stored is None:
                    self.ledger.finish(key, result)
                    self._in_a_row = 0
                self.results[key] = result
                tokens, self._tokens = self.budget.spent.completion - self._tokens, self.budget.spent.completion
                has_chains = bool(result.get("steps") or result.get("pairs"))
                progress.advance(amount=tokens, resumed=stored is not None, failed=not has_chains)

    def missing(self, key: str) -> AttemptError:
        """Returns why a question has no result."""
        if key in self.unanswered:
            return AttemptError("server", "no reply", self.unanswered[key])
        return AttemptError("unfinished", "the run ended early")
