"""The output of `atomthink score`: tables, JSON and the chart."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.report.chart import ChartPanel, chart_row, draw_panels, require_charts
from atomthink_plugin.report.number_format import percent
from atomthink_plugin.report.number_format import points as in_points
from atomthink_plugin.report.output_files import base_style, write_bytes, write_text
from atomthink_plugin.rollouts.candidate_scores import CandidateScores
from atomthink_plugin.rollouts.selection import CandidatePool, SelectionRule
from atomthink_plugin.rollouts.selection_curve import MAJORITY, SelectionPoint
from atomthink_plugin.tables import Grid

CURVES = (".svg", ".html", ".png")
"""The endings of files of `--curve`."""


@dataclass(frozen=True, slots=True)
class ScoredRollouts:
    """Everything that `atomthink score` found.

    Attributes:
        source: The files of candidates.
        format: Their format.
        pools: The questions, as the rules of selection see them.
        scores: The step scores of each process reward model (PRM).
        points: A point for each rule and number of candidates.
        judged_by: Number of candidates by what judged them.
        unused: Number of records and questions that cannot be used, by the reason.
        cut: Number of candidates whose text may have lost its end.
        notes: Notes of the reader of the files.
    """

    source: str
    format: str
    pools: Sequence[CandidatePool]
    scores: Sequence[CandidateScores]
    points: Sequence[SelectionPoint]
    judged_by: Mapping[str, int]
    unused: Mapping[str, int]
    cut: int
    notes: Sequence[str]

    @property
    def candidates(self) -> int:
        """Number of all candidates."""
        return sum(map(len, self.pools))

    @property
    def unanswered(self) -> int:
        """Number of candidates without an answer."""
        return sum(answer is None for pool in self.pools for answer in pool.answers)


def rule_name(rule: SelectionRule) -> str:
    """Returns the name of a rule in tables."""
    kinds = {"single": "single candidate", "majority": "majority", "pass": "pass@N"}
    if rule.by is None:
        return kinds[rule.kind]
    kind = "weighted by" if rule.kind == "weighted" else "best of N by"
    return f"{kind} {rule.by.prm}, {rule.by.aggregate}"


def selection_grids(found: ScoredRollouts) -> list[Grid]:
    """Returns the tables: accuracy by N, the difference from the majority, the first N candidates, and costs."""
    by_rule: dict[SelectionRule, list[SelectionPoint]] = {}
    for point in found.points:
        by_rule.setdefault(point.rule, []).append(point)
    at = [str(point.n) for point in by_rule[MAJORITY]]
    counts = ("questions", *(str(point.questions) for point in by_rule[MAJORITY]))
    title = f"{found.source}: {len(found.pools)} questions, {found.candidates} candidates ({found.format})"
    accuracies = [(rule_name(rule), *(percent(one.accuracy) for one in own)) for rule, own in by_rule.items()]
    gains = [
        (rule_name(rule), *(in_points(one.gain) for one in own if one.gain is not None))
        for rule, own in by_rule.items()
        if rule != MAJORITY
    ]
    first = [(rule_name(rule), *(f"{100 * one.first:.1f}" for one in own)) for rule, own in by_rule.items()]
    random = "mean over all subsets of N candidates, with 95 % intervals"
    tables = [
        Grid(title, ("accuracy, %, by N", *at), [*accuracies, counts], caption=random),
        Grid(
            "difference from the majority in points, with 95 % intervals of a paired bootstrap over questions",
            ("difference by N", *at),
            gains,
        ),
        Grid("with the first N candidates as they were sampled", ("accuracy, %, by N", *at), first),
    ]
    return [*tables, *([_costs(found.scores)] if found.scores else [])]


def _costs(scores: Sequence[CandidateScores]) -> Grid:
    headings = (
        *("PRM", "candidates with scores", "scored now", "from earlier", "scored steps"),
        *("tokens read", "from the cache", "tokens generated", "seconds", "steps/s"),
    )
    caption = "equal candidates of a question are scored once"
    return Grid("cost of the scores, all runs together", headings, [_cost(one) for one in scores], caption=caption)


def _cost(one: CandidateScores) -> tuple[str, ...]:
    total = sum(map(len, one.scores))
    have = f"{total - one.failed.total()} of {total}"
    if one.identity is None:
        return (one.prm, have, *("",) * 7, "")
    used = one.usage
    return (
        *(one.prm, have, str(one.scored), str(one.resumed), str(used.score_calls)),
        *(str(used.prefilled), str(used.cached), str(used.judged), f"{used.seconds:.1f}"),
        f"{used.score_calls / used.seconds:.1f}" if used.seconds else "",
    )


def selection_notes(found: ScoredRollouts) -> list[str]:
    """Returns what was left out, and what is estimated."""
    notes = list(found.notes)
    notes += [f"{count} records or questions cannot be used: {reason}" for reason, count in found.unused.items()]
    judged = ", ".join(f"{count} by {by}" for by, count in found.judged_by.items())
    notes.append(f"verdicts on candidates: {judged}")
    if found.unanswered:
        notes.append(f"{found.unanswered} of {found.candidates} candidates have no answer and do not vote")
    if found.cut:
        notes.append(f"{found.cut} candidates may have lost the end of their text, because their cells are full")
    for one in found.scores:
        notes += [
            f"{one.prm}: {count} candidates have no score and rank below all others: {reason}"
            for reason, count in one.failed.most_common()
        ]
    questions = Counter({point.n: point.questions for point in found.points})
    for n, count in questions.items():
        if count < len(found.pools):
            notes.append(f"N={n}: {len(found.pools) - count} questions with fewer candidates are left out")
    if error := max((point.sampling_error for point in found.points), default=0.0):
        notes.append(f"votes among many subsets are estimated: standard errors up to {100 * error:.2g} points")
    return notes


def selection_json(found: ScoredRollouts) -> dict[str, Any]:
    """Returns everything as plain data, with accuracies in [0, 1]."""
    return {
        "source": found.source,
        "format": found.format,
        "questions": len(found.pools),
        "candidates": found.candidates,
        "unanswered": found.unanswered,
        "cut": found.cut,
        "unused": dict(found.unused),
        "judged_by": dict(found.judged_by),
        "prms": [_prm_json(one) for one in found.scores],
        "points": [_point_json(point) for point in found.points],
        "notes": selection_notes(found),
    }


def _prm_json(one: CandidateScores) -> dict[str, Any]:
    return {
        "name": one.prm,
        "identity": one.identity,
        "scored": one.scored,
        "resumed": one.resumed,
        "unscored": dict(one.failed),
        "usage": asdict(one.usage),
        "speed": one.speed.to_json() if one.speed is not None else None,
    }


def _point_json(point: SelectionPoint) -> dict[str, Any]:
    by = point.rule.by
    gain = dict(zip(("gain", "gain_low", "gain_high"), point.gain or (), strict=False))
    return {
        "rule": point.rule.kind,
        "prm": by.prm if by else None,
        "aggregate": by.aggregate if by else None,
        "n": point.n,
        "questions": point.questions,
        **dict(zip(("accuracy", "low", "high"), point.accuracy, strict=True)),
        "first": point.first,
        **gain,
        "sampling_error": point.sampling_error,
    }


def check_curve(file: Path | None) -> None:
    """Raises AtomThinkError if a chart cannot be drawn to the file of `--curve`. Called before long work."""
    if file is None:
        return
    if file.suffix not in CURVES:
        raise AtomThinkError(f"`--curve {file}`: its name must end with {', '.join(CURVES)}")
    require_charts()


def write_curve(file: Path, found: ScoredRollouts) -> None:
    """Draws accuracy against the number of candidates, one diagram for each PRM.

    Raises:
        AtomThinkError: The file cannot be written.
    """
    prms = [one.prm for one in found.scores] or [""]
    panels = [ChartPanel(_rows(found.points, prm), "n", "candidates per question (N)", prm) for prm in prms]
    title = f"{found.source}: {len(found.pools)} questions"
    pictures = draw_panels(panels, [title, "mean over all subsets of N candidates, with 95 % intervals"])
    if file.suffix != ".html":
        write_bytes("--curve", file, pictures[file.suffix.removeprefix(".")])
        return
    svg = pictures["svg"].decode()
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{base_style()}</style></head>\n<body>{svg}</body></html>\n"
    )
    write_text("--curve", file, page)


def _rows(points: Sequence[SelectionPoint], prm: str) -> list[dict[str, Any]]:
    own = [point for point in points if point.rule.by is None or point.rule.by.prm == prm]
    plain = [{**_point_json(point), "search": point.rule.kind} for point in own]
    return [chart_row(point, n=float(point["n"])) for point in plain]
