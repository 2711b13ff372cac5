"""Progress of scoring: steps done, steps per second, time left."""

from __future__ import annotations

import logging
import time
from contextlib import AbstractContextManager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from atomthink_plugin.runtime.progress import LOG_EVERY_SECONDS

log = logging.getLogger(__name__)


class StepProgress(AbstractContextManager["StepProgress"]):
    """A progress bar on a terminal, a log line now and then elsewhere.

    Args:
        total: Steps to score.
        label: What is shown before the bar.
    """

    def __init__(self, total: int, label: str) -> None:
        console = Console(stderr=True)
        self._total, self._label, self._terminal = total, label, console.is_terminal
        self._done = 0
        self._started = self._logged = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:,.0f} steps/s left"),
            TimeRemainingColumn(),
            console=console,
            disable=not self._terminal,
        )
        self._task = self._bar.add_task(label, total=total, rate=0.0)

    def __enter__(self) -> StepProgress:
        """Starts drawing."""
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops drawing and leaves the last state."""
        self._bar.stop()

    def advance(self, steps: int) -> None:
        """Counts steps as done."""
        self._done += steps
        now = time.monotonic()
        rate = self._done / max(now - self._started, 1e-9)
        self._bar.update(self._task, advance=steps, rate=rate)
        if not self._terminal and (self._done == self._total or now - self._logged >= LOG_EVERY_SECONDS):
            self._logged = now
            left = (self._total - self._done) / max(rate, 1e-9)
            log.info("%s: %d of %d, %.0f steps/s, %.0f s left", self._label, self._done, self._total, rate, left)
