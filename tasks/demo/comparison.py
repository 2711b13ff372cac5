"""`atomthink demo`: the embedded model under several ways of thinking, side by side."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from atomthink_plugin.accuracy_stats import wilson
from atomthink_plugin.api import AtomThinkError, Failure, Outcome, Result
from atomthink_plugin.named_models import plan_for
from atomthink_plugin.report.output_files import write_json
from atomthink_plugin.runtime.build import build, cache_folder, open_journal
from atomthink_plugin.runtime.progress import RunProgress
from atomthink_plugin.tables import Grid, print_grid
from atomthink_plugin.tasks.demo.engine_questions import engine_questions, right_answers
from atomthink_plugin.tasks.demo.questions import DEMO_SIZE, DemoQuestion, held_out
from atomthink_plugin.tasks.demo.search_trees import NEXT, show_example, write_trees


@dataclass(frozen=True, slots=True)
class ModeResult:
    """One way of thinking, measured.

    Attributes:
        mode: As typed: `quick`, `slow`, `slow:best_of_n`.
        right: Per question, whether it was answered rightly.
        failed: Questions that could not be asked or scored.
        tokens: Policy tokens per question.
        prm_calls: Scored steps per question.
        seconds: Wall-clock seconds of the whole run, loading included.
        unanswered: Questions whose thinking ended without an answer.
    """

    mode: str
    right: tuple[bool, ...]
    failed: int
    tokens: float
    prm_calls: float
    seconds: float
    unanswered: int = 0

    @property
    def accuracy(self) -> float:
        """Share of all questions that were answered rightly."""
        return sum(self.right) / len(self.right)

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson 95 % interval of the accuracy."""
        return wilson(sum(self.right), len(self.right))


def arguments_of(mode: str) -> dict[str, Any]:
    """Returns the model arguments a mode stands for; `slow:NAME` is a search by its name."""
    thinking, _, search = mode.partition(":")
    return {"thinking": thinking, **({"search": search} if search else {})}


def measure(
    mode: str,
    demo: Sequence[DemoQuestion],
    arguments: Mapping[str, Any],
    models: Mapping[str, Any] | None = None,
) -> tuple[ModeResult, list[Result]]:
    """Answers the questions in one way of thinking.

    Args:
        mode: The row's name.
        demo: What to ask.
        arguments: Model arguments, as a user would type them; without `journal`, none is kept.
        models: Defaults that override the embedded model's own.
    """
    started = time.monotonic()
    planned = plan_for("atomthink_tiny", {"journal": "off", **arguments}, models)
    runner = build(planned)
    journal = open_journal(planned, runner, "demo")
    try:
        with RunProgress(len(demo), mode) as progress:
            results = replace(runner, journal=journal).run(engine_questions(demo), progress.finished)
    finally:
        if journal is not None:
            journal.close()
    seconds = time.monotonic() - started
    usage = [result.usage for result in results]
    row = ModeResult(
        mode=mode,
        right=tuple(right_answers(demo, results)),
        failed=sum(isinstance(result, Failure) for result in results),
        tokens=sum(spent.generated for spent in usage) / len(usage),
        prm_calls=sum(spent.score_calls for spent in usage) / len(usage),
        seconds=seconds,
        unanswered=sum(isinstance(result, Outcome) and result.answer is None for result in results),
    )
    return row, results


def table(rows: Sequence[ModeResult]) -> Grid:
    """Returns the rows as they are printed."""
    headings = ("thinking", "accuracy", "95 % interval", "tokens/q", "PRM calls/q", "seconds")
    cells = [
        (
            row.mode + _left(row),
            f"{row.accuracy:.1%}",
            f"{row.interval[0]:.1%} to {row.interval[1]:.1%}",
            f"{row.tokens:.0f}",
            f"{row.prm_calls:.1f}",
            f"{row.seconds:.0f}",
        )
        for row in rows
    ]
    return Grid(f"{len(rows[0].right)} held-out questions, embedded model", headings, cells)


def _left(row: ModeResult) -> str:
    """Returns how many questions have no answer, by reason."""
    counts = {"failed": row.failed, "unanswered": row.unanswered}
    reasons = ", ".join(f"{count} {reason}" for reason, count in counts.items() if count)
    return f" ({reasons})" if reasons else ""


def run(questions: int, modes: Sequence[str], file: Path | None) -> None:
    """Runs the demo and prints its table, one example, and where the page with all search trees of the last mode is.

    An interrupt (Ctrl-C) ends it with the table of the modes that are finished.

    Args:
        questions: How many of the demo task's questions.
        modes: Ways of thinking, see `arguments_of`.
        file: Where the rows go as JSON, if anywhere.

    Raises:
        AtomThinkError: A mode or the number of questions is not possible; raised before any question is asked. Or a
            file cannot be written.
        KeyboardInterrupt: See above.
    """
    if not 1 <= questions <= DEMO_SIZE:
        raise AtomThinkError(f"`--limit {questions}`: the demo task has 1 to {DEMO_SIZE} questions")
    if file is not None and (file.is_dir() or not file.absolute().parent.is_dir()):
        raise AtomThinkError(f"`--json {file}`: not a file in an existing folder")
    for mode in modes:
        plan_for("atomthink_tiny", arguments_of(mode))
    demo = held_out(questions)
    rows: list[ModeResult] = []
    with TemporaryDirectory() as folder:
        try:
            for number, mode in enumerate(modes, 1):
                kept = {"journal": folder} if number == len(modes) else {}
                row, results = measure(mode, demo, {**arguments_of(mode), **kept})
                rows.append(row)
        except KeyboardInterrupt:
            print(f"stopped: {len(rows)} of {len(modes)} ways of thinking are finished")
            _tell(rows, file)
            raise
        _tell(rows, file)
        show_example(mode, demo, results, row.right)
        (journal,) = Path(folder).iterdir()
        page = cache_folder() / "demo.html"
        write_trees(page, journal, mode, demo, row.right)
    print(f"\nAll search trees of `{mode}`: {page}")
    print(f"next: {NEXT}")


def _tell(rows: Sequence[ModeResult], file: Path | None) -> None:
    """Prints the table and writes the rows."""
    if rows:
        print_grid(table(rows))
    if file is not None:
        records = [{**asdict(row), "accuracy": row.accuracy, "interval": row.interval} for row in rows]
        write_json("--json", file, records)
