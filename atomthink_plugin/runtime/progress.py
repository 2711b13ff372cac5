"""The progress of long work: how much is done, how fast, and the time left."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TypeVar

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

Item = TypeVar("Item")

LOG_EVERY_SECONDS = 30.0
"""How often a line is logged without a terminal."""


class RunProgress:
    """A progress bar on a terminal, a log line every 30 seconds elsewhere.

    Args:
        total: How much there is to do.
        label: Text before the bar.
        unit: What is counted, in the plural.
        rate_of: What the rate counts, "tokens" for example; None for the rate of `unit`.
        shown: False for the further processes of a run.
    """

    def __init__(
        self, total: int, label: str, *, unit: str = "questions", rate_of: str | None = "tokens", shown: bool = True
    ) -> None:
        self._console = Console(stderr=True)
        self._total, self._label, self._unit, self._shown = total, label, unit, shown
        self._rate_of = rate_of
        self._done = self._fresh = self._failed = self._amount = 0
        self._started = self._logged = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(f"{{task.fields[rate]:,.0f}} {rate_of or unit}/s"),
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
        """Stops drawing. The last state remains visible, or is logged if the work was interrupted."""
        self._bar.stop()
        if kind is not None and self._done < self._total:
            self._log()

    def finished(self, result: Result, spent: Usage | None) -> None:
        """Counts one question with its sampled tokens, those of a generative scorer included.

        Args:
            result: The outcome or the failure.
            spent: What it cost in this run, None for a question that the journal knew.
        """
        tokens = spent.tokens if spent else 0
        self.advance(amount=tokens, resumed=spent is None, failed=not isinstance(result, Outcome))

    def advance(self, units: int = 1, *, amount: int = 0, resumed: bool = False, failed: bool = False) -> None:
        """Counts units as done.

        Args:
            units: How many.
            amount: How much of `rate_of` they took.
            resumed: Whether an earlier run did them. They count as done, and not for the time left.
            failed: Whether they failed.
        """
        self._done += units
        self._fresh += 0 if resumed else units
        self._failed += units if failed else 0
        self._amount += amount if self._rate_of else units
        self._bar.update(self._task, advance=units, rate=self._rate)
        if self._due():
            self._log()

    @property
    def _elapsed(self) -> float:
        return max(time.monotonic() - self._started, 1e-9)

    @property
    def _rate(self) -> float:
        return self._amount / self._elapsed

    def _log(self) -> None:
        """Logs the state if there is no terminal."""
        if self._shown and not self._console.is_terminal:
            left = self._elapsed / max(self._fresh, 1) * (self._total - self._done)
            log.info(
                "%s: %d of %d %s, %d failed, %.0f %s/s, %.0f s left",
                *(self._label, self._done, self._total, self._unit, self._failed),
                *(self._rate, self._rate_of or self._unit, left),
            )

    def _due(self) -> bool:
        now = time.monotonic()
        if self._done < self._total and now - self._logged < LOG_EVERY_SECONDS:
            return False
        self._logged = now
        return True


def track(items: Sequence[Item], unit: str) -> Iterator[Item]:
    """Yields the items and shows how many are done.

    Args:
        items: The items.
        unit: What they are, in the plural.
    """
    with RunProgress(len(items), unit, unit=unit, rate_of=None) as progress:
        for item in items:
            yield item
            progress.advance()
