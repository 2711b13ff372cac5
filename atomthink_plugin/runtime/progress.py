"""Progress of a run: questions done, tokens per second, time left."""

from __future__ import annotations

import logging
import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from atomthink_plugin.api import Outcome, Result, Usage

log = logging.getLogger(__name__)

LOG_EVERY_SECONDS = 30.0
"""How often a line is logged where there is no terminal to draw on."""


class RunProgress:
    """A progress bar on a terminal, a log line now and then elsewhere.

    Args:
        total: Questions to answer.
        label: What is shown before the bar.
        shown: False for the further processes of a run.
    """

    def __init__(self, total: int, label: str, shown: bool = True) -> None:
        self._console = Console(stderr=True)
        self._total, self._label, self._shown = total, label, shown
        self._done = self._asked = self._failed = self._tokens = 0
        self._started = self._logged = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:,.0f} tokens/s"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not (shown and self._console.is_terminal),
        )
        self._task = self._bar.add_task(label, total=total, rate=0.0)

    def __enter__(self) -> RunProgress:
        """Starts drawing."""
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops drawing and leaves the last state."""
        self._bar.stop()

    def finished(self, result: Result, spent: Usage | None) -> None:
        """Counts one question by what it cost in this run; None for one that was not asked."""
        self.count(spent.generated if spent else 0, spent is not None, not isinstance(result, Outcome))

    def count(self, tokens: int, asked: bool, failed: bool) -> None:
        """Counts one question by what it took in this run."""
        self._done += 1
        self._asked += asked
        self._tokens += tokens
        self._failed += failed
        elapsed = max(time.monotonic() - self._started, 1e-9)
        rate = self._tokens / elapsed
        self._bar.update(self._task, advance=1, rate=rate)
        if self._shown and not self._console.is_terminal and self._due():
            left = elapsed / max(self._asked, 1) * (self._total - self._done)
            log.info(
                "%s: %d of %d questions, %d failed, %.0f tokens/s, %.0f s left",
                *(self._label, self._done, self._total, self._failed, rate, left),
            )

    def _due(self) -> bool:
        now = time.monotonic()
        if self._done < self._total and now - self._logged < LOG_EVERY_SECONDS:
            return False
        self._logged = now
        return True
