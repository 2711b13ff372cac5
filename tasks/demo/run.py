"""The command `atomthink demo`: compares modes of thinking, and shows one chain and all search trees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from atomthink_plugin.api import AtomThinkError, Outcome, Result
from atomthink_plugin.named_models import plan_for
from atomthink_plugin.redaction import printable
from atomthink_plugin.report.output_files import writable, write_json
from atomthink_plugin.report.page_html import write_page
from atomthink_plugin.report.run_reader import read
from atomthink_plugin.runtime.build import cache_folder
from atomthink_plugin.tables import print_grid
from atomthink_plugin.tasks.demo.comparison import ModeResult, comparison_table, measure_mode, mode_arguments
from atomthink_plugin.tasks.demo.questions import DEMO_SIZE, DemoQuestion, held_out

NEXT: Final = (
    "lmms-eval --model atomthink_hf --tasks mathvision_atomic_testmini --log_samples --output_path out "
    "--model_args pretrained=ORG/MODEL,thinking=slow,search=beam,prm=ORG/PRM"
)
"""The README's first command for a model of the user's own."""


def run_demo(questions: int, modes: Sequence[str], json_file: Path | None) -> None:
    """Answers demo questions in several modes, and prints a table, one example, and the page with the search trees.

    The page has the trees of the last mode. After an interrupt (Ctrl-C), the table has the finished modes.

    Args:
        questions: Number of questions of the demo task.
        modes: Modes of thinking; see `mode_arguments`.
        json_file: If given, the rows are written to this file.

    Raises:
        AtomThinkError: A mode, the number of questions or a file cannot be used. All of them are checked before a
            question is asked.
        KeyboardInterrupt: The run was interrupted.
    """
    if not 1 <= questions <= DEMO_SIZE:
        raise AtomThinkError(f"`--limit {questions}`: the demo task has 1 to {DEMO_SIZE} questions")
    writable("--json", json_file)
    for mode in modes:
        plan_for("atomthink_tiny", mode_arguments(mode))
    demo = held_out(questions)
    rows: list[ModeResult] = []
    with TemporaryDirectory() as folder:
        try:
            for number, mode in enumerate(modes, 1):
                journal = {"journal": folder} if number == len(modes) else {}
                row, results = measure_mode(mode, demo, {**mode_arguments(mode), **journal})
                rows.append(row)
        except KeyboardInterrupt:
            print(f"stopped: {len(rows)} of {len(modes)} modes are finished")
            _publish(rows, json_file)
            raise
        _publish(rows, json_file)
        print_example(mode, demo, results, row.right)
        (file,) = Path(folder).iterdir()
        page = cache_folder() / "demo.html"
        write_trees(page, file, mode, demo, row.right)
    print(f"\nAll search trees of `{mode}`: {page}")
    print(f"next: {NEXT}")


def _publish(rows: Sequence[ModeResult], json_file: Path | None) -> None:
    """Prints the table and writes the rows."""
    if rows:
        print_grid(comparison_table(rows))
        print_speed(rows[-1])
    if json_file is not None:
        write_json("--json", json_file, [_record(row) for row in rows])


def print_speed(row: ModeResult) -> None:
    """Prints how fast a mode was and what its models did with the time."""
    if row.speed is not None:
        print(f"Speed of `{row.mode}`: " + "\n  ".join(row.speed.lines()))


def _record(row: ModeResult) -> dict[str, Any]:
    numbers = {one.name: getattr(row, one.name) for one in fields(row) if one.name != "speed"}
    speed = row.speed.to_json() if row.speed is not None else None
    return {**numbers, "accuracy": row.accuracy, "interval": row.interval, "speed": speed}


def print_example(mode: str, demo: Sequence[DemoQuestion], results: Sequence[Result], right: Sequence[bool]) -> None:
    """Prints the chain of one question with the scores of its steps; of a right answer if there is one.

    Args:
        mode: The mode of the results.
        demo: The questions.
        results: Their results.
        right: Whether each answer is right.
    """
    answered = [i for i, result in enumerate(results) if isinstance(result, Outcome) and result.steps]
    if not answered:
        print(f"\nNo chain of `{mode}` has a step. The page below shows the candidates and why they were rejected.")
        return
    chosen = max(answered, key=lambda i: right[i])
    outcome = results[chosen]
    assert isinstance(outcome, Outcome)
    scored = any(score is not None for score in outcome.scores)
    verdict = "right" if right[chosen] else f"wrong, the right answer is {demo[chosen].answer}"
    scores = ", with the PRM's score of each step" if scored else ""
    print(f"\nQuestion {chosen} by `{mode}`{scores}: {demo[chosen].text}")
    for score, step in zip(outcome.scores, outcome.steps, strict=True):
        print(f"{'' if score is None else f' {score:.2f}  '}{printable(step)}")
    print(f"Answer: {printable(str(outcome.answer))}, {verdict}")


def write_trees(page: Path, journal: Path, mode: str, demo: Sequence[DemoQuestion], right: Sequence[bool]) -> None:
    """Writes the page of `atomthink view` for a journal, with the verdicts of the demo.

    Args:
        page: The file to write.
        journal: The folder of the journal.
        mode: The mode of the journal.
        demo: The questions.
        right: Whether each answer is right.

    Raises:
        AtomThinkError: The file cannot be written.
    """
    run = read(journal)
    judged = [
        replace(one, target=str(demo[one.doc_id].answer), correct=right[one.doc_id], scorer="the demo")
        for one in run.questions
    ]
    shown = replace(run, name=f"demo, {mode}", questions=judged, scorer="the demo", missing=())
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        with page.open("w", encoding="utf-8") as file:
            write_page(file, [shown])
    except OSError as error:
        raise AtomThinkError(f"the page {page} cannot be written: {error.strerror}") from None
