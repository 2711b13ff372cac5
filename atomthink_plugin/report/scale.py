"""The output of `atomthink scale`: tables, charts and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.report.budget_choice import BudgetChoice, agreement_parts, best_choices, difficulty_parts
from atomthink_plugin.report.candidates import MIN_AGREEMENT, JudgeAgreement, SampledQuestion, sampled_questions
from atomthink_plugin.report.chart import draw
from atomthink_plugin.report.number_format import percent
from atomthink_plugin.report.output_files import write_bytes, write_json
from atomthink_plugin.report.paired_runs import thinking
from atomthink_plugin.report.replay import PASS, SelectionMethod
from atomthink_plugin.report.run_reader import RecordedRun, read
from atomthink_plugin.report.scaling_curve import CurvePoint, common_methods, curve, halves, sizes
from atomthink_plugin.tables import Grid, print_grid, print_note


@dataclass(frozen=True, slots=True)
class Scaling:
    """The accuracy and cost of a run with fewer candidates.

    Attributes:
        run: The run.
        questions: Its questions with a verdict and a record.
        judged: The judge of the candidates and its agreement with the task.
        points: A point for each method and size.
        best: The best uses of token budgets, overall and by the task's difficulty.
        by_agreement: The same with one half of the candidates, by the agreement of the other half.
        notes: Notes about the data and the estimates.
    """

    run: RecordedRun
    questions: Sequence[SampledQuestion]
    judged: JudgeAgreement
    points: Sequence[CurvePoint]
    best: Sequence[BudgetChoice]
    by_agreement: Sequence[BudgetChoice]
    notes: Sequence[str]


def scaling(run: Path, journal: Path | None) -> Scaling:
    """Returns the accuracy and cost of a run with fewer candidates.

    Raises:
        AtomThinkError: The run has no candidates, only one per question, or no verdicts.
    """
    found = read(run, journal)
    questions, judged = sampled_questions(found)
    at = sizes(questions)
    if at == [1]:
        raise AtomThinkError(
            f"`{found.name}` has one candidate per question, and a curve needs more. Run majority, weighted or "
            "best_of_n with n=16"
        )
    methods = common_methods(questions)
    points = curve(questions, at, methods, found.pace)
    chosen = best_choices(questions, points, difficulty_parts(questions))
    notes = _notes(found, questions, judged)
    return Scaling(found, questions, judged, points, chosen, _by_agreement(questions, methods), notes)


def _by_agreement(questions: Sequence[SampledQuestion], methods: Sequence[SelectionMethod]) -> list[BudgetChoice]:
    """Estimates the difficulty with one half of the candidates, and the best search with the other half."""
    chosen, tried = zip(*map(halves, questions), strict=True)
    return best_choices(tried, curve(tried, sizes(tried), methods), agreement_parts(chosen))


def show(run: Path, journal: Path | None, files: Mapping[str, Path]) -> None:
    """Prints the curve and the best uses of token budgets.

    Args:
        run: The run, see `run_reader.read`.
        journal: Its journal's folder, if it was moved.
        files: The files to write, by `png`, `svg` and `json`.

    Raises:
        AtomThinkError: The run has no curve, or a file cannot be written.
    """
    found = scaling(run, journal)
    for grid in grids(found):
        print_grid(grid)
    for note in found.notes:
        print_note(note)
    wanted = files.keys() & {"png", "svg"}
    titles = [_title(found), found.judged.summary]
    pictures = draw(plain(found)["points"], titles, latency=found.run.pace is None) if wanted else {}
    for kind, file in files.items():
        if kind == "json":
            write_json("--json", file, plain(found))
        else:
            write_bytes(f"--{kind}", file, pictures[kind])


def plain(found: Scaling) -> dict[str, Any]:
    """Returns everything as plain data, with accuracies in [0, 1]."""
    points = [
        {
            "search": point.method.search,
            "aggregate": point.method.aggregate,
            "n": point.n,
            "tokens": point.tokens,
            "prm_calls": point.prm_calls,
            "estimated_seconds": point.seconds,
            **dict(zip(("accuracy", "low", "high"), point.accuracy, strict=True)),
        }
        for point in found.points
    ]
    return {
        "run": found.run.name,
        "model": found.run.model,
        "thinking": thinking(found.run.settings),
        "questions": len(found.questions),
        "judged": asdict(found.judged),
        "points": points,
        "best": [asdict(one) for one in found.best],
        "by_agreement": [asdict(one) for one in found.by_agreement],
        "notes": list(found.notes),
    }


def grids(found: Scaling) -> list[Grid]:
    """Returns the tables: accuracy by method and size with its cost, and the best use of each budget."""
    at = sorted({point.n for point in found.points})
    by_method: dict[str, list[CurvePoint]] = {}
    for point in found.points:
        by_method.setdefault(point.method.name, []).append(point)
    cells = [(name, *(percent(point.accuracy) for point in points)) for name, points in by_method.items()]
    seconds = "s/q" if found.run.pace is not None else "s of latency"
    costs = [
        ("tokens/q", *(f"{by_method[PASS.name][i].tokens:.0f}" for i in range(len(at)))),
        (f"{seconds}, without PRM", *(f"{by_method[PASS.name][i].seconds:.2f}" for i in range(len(at)))),
    ]
    scored = next((points for points in by_method.values() if points[0].method.aggregate not in (None, "last")), None)
    if scored is not None:
        costs += [
            ("PRM calls/q", *(f"{point.prm_calls:.1f}" for point in scored)),
            (f"{seconds}, with PRM", *(f"{point.seconds:.2f}" for point in scored)),
        ]
    curves = Grid(_title(found), ("accuracy, %, by N", *map(str, at)), [*cells, *costs])
    title = "the best search within a budget of tokens, chosen on one half of the questions"
    agreed = f"{title}, with one half of the candidates, by the agreement of the other half"
    tables = ((title, found.best), (agreed, found.by_agreement))
    return [curves, *(_budgets(title, rows) for title, rows in tables if rows)]


def _budgets(title: str, found: Sequence[BudgetChoice]) -> Grid:
    headings = (
        "questions",
        "budget",
        "best on one half",
        "N",
        "tokens/q",
        "accuracy on the other, %",
        "best overall there",
        "of",
    )
    cells = [
        (
            one.part,
            f"{one.budget:.0f}",
            one.method.name,
            str(one.n),
            f"{one.tokens:.0f}",
            percent(one.accuracy),
            f"{100 * one.overall:.1f}",
            str(one.reported_on),
        )
        for one in found
    ]
    return Grid(title, headings, cells, left=frozenset({2}))


def _title(found: Scaling) -> str:
    return f"{found.run.name}, {len(found.questions)} questions: {thinking(found.run.settings)}"


def _notes(run: RecordedRun, questions: Sequence[SampledQuestion], judged: JudgeAgreement) -> list[str]:
    notes = [f"`{run.name}`: {note}" for note in run.missing]
    if len(questions) < len(run.questions):
        skipped = len(run.questions) - len(questions)
        notes.append(f"{skipped} questions without a verdict, a record or a reference answer are skipped")
    alike = judged.agreed / judged.of
    notes.append(judged.summary + (". The curve shows this judge, not the task" if alike < MIN_AGREEMENT else ""))
    counts = sorted({len(one.candidates) for one in questions if one.candidates})
    if len(counts) > 1:
        notes.append(
            f"questions have {counts[0]} to {counts[-1]} candidates, because the search stopped early. For a larger N, "
            "a question counts with all that it has"
        )
    spent = sum(one.question.stopped == "budget" for one in questions)
    if spent:
        notes.append(f"{spent} questions were stopped by their budget. With fewer candidates, each would have had more")
    source = "latency of the questions" if run.pace is None else "time of the whole run"
    notes.append(f"seconds are estimated from the {source}, in proportion to policy tokens and scored steps")
    return notes
