"""The output of `atomthink compare`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.report.equal_tokens import ReducedRun, equal_tokens
from atomthink_plugin.report.number_format import number, percent, points
from atomthink_plugin.report.output_files import write_json, write_text
from atomthink_plugin.report.paired_runs import Category, PairedRuns, RunComparison, categories, pair, rows
from atomthink_plugin.report.run_reader import read_all
from atomthink_plugin.tables import Grid, print_grid, print_note


def compare(
    runs: Sequence[Path], journals: Sequence[Path], common: bool, any_scorer: bool
) -> tuple[PairedRuns, dict[str, Any]]:
    """Returns the runs reduced to the compared questions, and the comparison as plain data.

    Raises:
        AtomThinkError: There are fewer than two runs, or they cannot be compared.
    """
    if len(runs) < 2:
        raise AtomThinkError(f"`{' '.join(map(str, runs))}` is not enough. Name at least two runs to compare")
    found = read_all(runs, journals)
    paired = pair(found, common, any_scorer)
    cuts, reductions = equal_tokens(paired)
    missing = [f"`{run.name}`: {note}" for run in found for note in run.missing]
    return paired, {
        "rows": rows(paired),
        "categories": categories(paired),
        "equal_tokens": cuts,
        "notes": [*missing, *paired.skipped, *reductions],
    }


def show(
    runs: Sequence[Path],
    journals: Sequence[Path],
    common: bool,
    any_scorer: bool,
    json: Path | None,
    markdown: Path | None,
) -> None:
    """Prints a comparison.

    Args:
        runs: Two or more runs, see `run_reader.read`. The others are compared with the first.
        journals: The journal of each run, empty to find them.
        common: Whether to skip questions that not all runs have.
        any_scorer: Whether the verdicts may come from different scorers.
        json: The JSON file to write, or None.
        markdown: The Markdown file to write, or None.

    Raises:
        AtomThinkError: The runs cannot be compared, or a file cannot be written.
    """
    paired, found = compare(runs, journals, common, any_scorer)
    tables = grids(paired, found)
    for grid in tables:
        print_grid(grid)
    for note in found["notes"]:
        print_note(note)
    if markdown is not None:
        notes = "".join(f"- {note}\n" for note in found["notes"])
        write_text("--markdown", markdown, "\n".join([*(grid.markdown() for grid in tables), notes]))
    if json is not None:
        plain = {
            name: [one if isinstance(one, str) else asdict(one) for one in values] for name, values in found.items()
        }
        write_json("--json", json, plain)


def grids(paired: PairedRuns, found: dict[str, Any]) -> list[Grid]:
    """Returns the tables of a comparison."""
    first = paired.runs[0].name
    tables = [_overall(found["rows"], first)]
    for run in paired.runs[1:]:
        own = [one for one in found["categories"] if one.run == run.name]
        if own:
            tables.append(_by_category(own, run.name, first))
    return [*tables, _equal(found["equal_tokens"])] if found["equal_tokens"] else tables


def _overall(lines: Sequence[RunComparison], first: str) -> Grid:
    headings = ("run", "thinking", "accuracy, %", f"minus {first}, points", "won, lost", "p")
    costs = ("tokens/q", "PRM calls/q", "s/q", "latency, s")
    cells = []
    for row in lines:
        failed = f" ({row.failed} failed)" if row.failed else ""
        cost = (number(row.tokens, ".0f"), number(row.prm_calls, ".1f"), number(row.seconds, ".2f"))
        against = _against(row)
        cells.append(
            (row.run + failed, row.thinking, percent(row.accuracy), *against, *cost, number(row.latency, ".1f"))
        )
    title = f"{lines[0].questions} questions, 95 % intervals, exact McNemar test against {first}"
    return Grid(title, (*headings, *costs), cells, left=frozenset({1}))


def _against(row: RunComparison) -> tuple[str, str, str]:
    if row.contrast is None:
        return "", "", ""
    return points(row.contrast.difference), f"+{row.contrast.won} -{row.contrast.lost}", f"{row.contrast.p:.2g}"


def _by_category(lines: Sequence[Category], run: str, first: str) -> Grid:
    headings = (
        "category",
        "questions",
        f"{first}, %",
        f"{run}, %",
        "difference, points",
        "won, lost",
        "p",
        "corrected p",
    )
    cells = [
        (
            f"{one.grouping}: {one.value}",
            str(one.questions),
            f"{100 * one.first[0]:.1f}",
            f"{100 * one.accuracy[0]:.1f}",
            points(one.contrast.difference),
            f"+{one.contrast.won} -{one.contrast.lost}",
            f"{one.contrast.p:.2g}",
            f"{one.p:.2g}{_mark(one)}",
        )
        for one in lines
    ]
    return Grid(f"{run} against {first} by category; p corrected for {len(lines)} categories (Holm)", headings, cells)


def _mark(one: Category) -> str:
    """Marks significant differences."""
    if one.p >= 0.05:
        return ""
    return " hurts" if one.contrast.difference[0] < 0 else " helps"


def _equal(cuts: Sequence[ReducedRun]) -> Grid:
    headings = (
        "run",
        "at the tokens of",
        "tokens/q",
        "candidates",
        "accuracy, %",
        "the other's, %",
        "difference, points",
    )
    cells = [
        (
            one.run,
            one.other,
            f"{one.tokens:.0f}",
            f"{one.candidates:.1f}",
            percent(one.accuracy),
            percent(one.other_accuracy),
            points(one.difference),
        )
        for one in cuts
    ]
    title = "accuracy at equal tokens: as many candidates as the other run's tokens pay for"
    return Grid(title, headings, cells, left=frozenset({1}))
