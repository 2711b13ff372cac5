"""Measures the embedded model in one mode of thinking, and compares modes in a table."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from atomthink_plugin.accuracy_stats import wilson
from atomthink_plugin.api import Failure, Outcome, Result, Usage
from atomthink_plugin.named_models import plan_for
from atomthink_plugin.runtime.build import build, open_journal
from atomthink_plugin.runtime.progress import RunProgress
from atomthink_plugin.runtime.speed import RunMeter, RunSpeed, models_of
from atomthink_plugin.tables import Grid
from atomthink_plugin.tasks.demo.engine_questions import engine_questions, right_answers
from atomthink_plugin.tasks.demo.questions import DemoQuestion


@dataclass(frozen=True, slots=True)
class ModeResult:
    """The measurement of one mode.

    Attributes:
        mode: The mode as typed: `quick`, `slow`, `slow:best_of_n`.
        right: Whether the answer to each question is right.
        failed: Number of questions that failed.
        tokens: Policy tokens per question.
        prm_calls: Scored steps per question.
        seconds: Wall-clock time of the whole run, loading included.
        unanswered: Number of questions without an answer that did not fail.
        speed: The speed without loading; None for a mode that was not run.
    """

    mode: str
    right: tuple[bool, ...]
    failed: int
    tokens: float
    prm_calls: float
    seconds: float
    unanswered: int = 0
    speed: RunSpeed | None = None

    @property
    def accuracy(self) -> float:
        """Share of right answers among all questions."""
        return sum(self.right) / len(self.right)

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson 95 % interval of the accuracy."""
        return wilson(sum(self.right), len(self.right))


def mode_arguments(mode: str) -> dict[str, Any]:
    """Returns the model arguments of a mode. `slow:NAME` names a search."""
    thinking, _, search = mode.partition(":")
    return {"thinking": thinking, **({"search": search} if search else {})}


def measure_mode(
    mode: str,
    demo: Sequence[DemoQuestion],
    arguments: Mapping[str, Any],
    models: Mapping[str, Any] | None = None,
) -> tuple[ModeResult, list[Result]]:
    """Answers the questions in one mode.

    Args:
        mode: The name of the mode.
        demo: The questions.
        arguments: Model arguments, as a user would type them. Without `journal`, no journal is written.
        models: Defaults that override those of the embedded model.
    """
    started = time.monotonic()
    planned = plan_for("atomthink_tiny", {"journal": "off", **arguments}, models)
    runner = build(planned)
    journal = open_journal(planned, runner, "demo")
    meter = RunMeter(models_of(runner))
    try:
        with RunProgress(len(demo), mode) as progress:

            def finished(result: Result, cost: Usage | None) -> None:
                progress.finished(result, cost)
                meter.finished(result, cost)

            results = replace(runner, journal=journal).run(engine_questions(demo), finished)
    finally:
        if journal is not None:
            journal.close()
    seconds = time.monotonic() - started
    usage = [result.usage for result in results]
    row = ModeResult(
        mode=mode,
        right=tuple(right_answers(demo, results)),
        failed=sum(isinstance(result, Failure) for result in results),
        tokens=sum(cost.tokens for cost in usage) / len(usage),
        prm_calls=sum(cost.score_calls for cost in usage) / len(usage),
        seconds=seconds,
        unanswered=sum(isinstance(result, Outcome) and result.answer is None for result in results),
        speed=meter.speed(),
    )
    return row, results


def comparison_table(rows: Sequence[ModeResult]) -> Grid:
    """Returns the printed table."""
    headings = ("thinking", "accuracy", "95 % interval", "tokens/q", "PRM calls/q", "seconds")
    cells = [
        (
            row.mode + _without_answer(row),
            f"{row.accuracy:.1%}",
            f"{row.interval[0]:.1%} to {row.interval[1]:.1%}",
            f"{row.tokens:.0f}",
            f"{row.prm_calls:.1f}",
            f"{row.seconds:.0f}",
        )
        for row in rows
    ]
    return Grid(f"{len(rows[0].right)} held-out questions, embedded model", headings, cells)


def _without_answer(row: ModeResult) -> str:
    """Returns the numbers of questions without an answer in parentheses; empty if all have one."""
    counts = {"failed": row.failed, "unanswered": row.unanswered}
    reasons = ", ".join(f"{count} {reason}" for reason, count in counts.items() if count)
    return f" ({reasons})" if reasons else ""
