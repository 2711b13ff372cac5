"""All questions at the same time, as many as are allowed; each is finished once, whatever stops the run."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from atomthink_plugin.api import AtomThinkError, Failure, Outcome, Result, Usage
from atomthink_plugin.runtime.progress import RunProgress
from atomthink_plugin.training.annotate.ledger import Ledger
from atomthink_plugin.training.annotate.meter import LimitError, Meter
from atomthink_plugin.training.annotate.teacher import LostError

log = logging.getLogger(__name__)

MOST_LOST: Final = 20
"""Questions in a row that the server may lose before the run ends: it is not there."""


@dataclass(frozen=True, slots=True)
class Task:
    """One question.

    Attributes:
        key: Its identity, with that of all that changes what it comes to.
        work: Finishes it; what it returns goes into the ledger.
    """

    key: str
    work: Callable[[], Awaitable[Mapping[str, Any]]]


@dataclass
class Finished:
    """How a run ended.

    Attributes:
        results: What finished questions came to, by key; also those of earlier runs.
        lost: Why the server lost a question, by key.
        limit: Says which limit ended the run, empty if none did.
        fault: Says what else did.
    """

    results: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)
    limit: str = ""
    fault: str = ""


@dataclass
class Engine:
    """Works off questions.

    Attributes:
        ledger: What earlier runs finished, and where this one does.
        meter: Says what was spent.
        concurrency: Questions at the same time.
        label: Stands before the progress.
    """

    ledger: Ledger
    meter: Meter
    concurrency: int
    label: str

    async def run(self, tasks: Sequence[Task]) -> Finished:
        """Finishes all tasks, or as many as the limit and the server allow."""
        done = Finished()
        queue = iter(tasks)
        with RunProgress(len(tasks), self.label) as progress:
            self._told, self._in_a_row = self.meter.spent.completion, 0
            await asyncio.gather(*(self._work(queue, done, progress) for _ in range(min(self.concurrency, len(tasks)))))
        return done

    async def _work(self, queue: Iterator[Task], done: Finished, progress: RunProgress) -> None:
        while not (done.limit or done.fault):
            task = next(queue, None)
            if task is None:
                return
            known = self.ledger.finished.get(task.key)
            try:
                result = known if known is not None else await task.work()
            except LimitError as error:
                done.limit = str(error)
            except LostError as error:
                done.lost[task.key] = str(error)
                self._in_a_row += 1
                if self._in_a_row >= MOST_LOST:
                    done.fault = f"{error}; {MOST_LOST} questions in a row had no reply"
                progress.finished(Failure(str(error)), Usage())
            except AtomThinkError as error:
                done.fault = str(error)
            else:
                if known is None:
                    self.ledger.finish(task.key, result)
                    self._in_a_row = 0
                done.results[task.key] = result
                shown = self._shown(result)
                progress.finished(shown, shown.usage if known is None else None)

    def _shown(self, result: Mapping[str, Any]) -> Result:
        """What the progress counts: tokens since the last question, and whether there is a chain."""
        told, self._told = self._told, self.meter.spent.completion
        usage = Usage(generated=self._told - told)
        steps = tuple(result.get("steps") or result.get("pairs") or ())
        return Outcome("", None, (), (), 0.0, "final", usage) if steps else Failure("no chain", usage)
