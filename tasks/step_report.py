"""The report of `atomthink steps`: the form and the scores of the steps in a run's replies.

All numbers come from the samples files, which lmms-eval gathers from all processes: replies, token counts and, if a
scorer ran, the score of each step of the chosen path.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.formats.steps import split_steps
from atomthink_plugin.report.run_samples import Run, Sample, read_run
from atomthink_plugin.tables import Grid, print_grid
from atomthink_plugin.tasks.capability.ability_scores import AbilityScore, score_abilities
from atomthink_plugin.tasks.capability.labellers import KeywordLabeller
from atomthink_plugin.tasks.capability.taxonomy import load_taxonomy
from atomthink_plugin.tasks.step_quality import step_quality, summarize


@dataclass(frozen=True, slots=True)
class ReportedStep:
    """One step of a reply and its score.

    Attributes:
        task: The task.
        doc_id: The question.
        index: Index of the step in the reply, from 0.
        text: The step.
        score: Its score, in [0, 1].
    """

    task: str
    doc_id: int
    index: int
    text: str
    score: float


@dataclass(frozen=True, slots=True)
class StepReportRow:
    """The steps of some replies.

    Attributes:
        task: The task.
        part: The part of its questions: `all`, or a value of the headline grouping.
        questions: Number of questions.
        failed: Number of questions that failed or have no reply. The other fields leave them out.
        per_answer: Steps per answer.
        well_formed: Share of answers whose steps are all valid and that state a final answer.
        repeated: Share of steps that repeat themselves or an earlier step.
        tokens: Generated tokens per answer, None if the model does not report them.
        score: Mean of all step scores, None if no scorer ran.
        worst: Mean over answers of the lowest step score, None if no scorer ran.
    """

    task: str
    part: str
    questions: int
    failed: int
    per_answer: float | None
    well_formed: float | None
    repeated: float | None
    tokens: float | None
    score: float | None
    worst: float | None


def write_step_report(run: Path, json_file: Path | None) -> None:
    """Prints the step report of a run.

    Args:
        run: A results file of lmms-eval or a folder with one; see `read_run`.
        json_file: If given, the rows and the scored steps are written to this file.

    Raises:
        AtomThinkError: There is no such run, or the file cannot be written.
    """
    read = read_run(run)
    rows = report_rows(read)
    abilities = {task: ability_scores(samples) for task, samples in read.samples.items()}
    for task in read.samples:
        print_grid(_table(task, [row for row in rows if row.task == task]))
        if abilities[task]:
            print_grid(_ability_table(abilities[task]))
    if json_file is not None:
        record = {
            "rows": [asdict(row) for row in rows],
            "abilities": {task: [asdict(score) for score in scores] for task, scores in abilities.items()},
            "steps": [asdict(step) for samples in read.samples.values() for step in scored_steps(samples)],
        }
        try:
            json_file.write_text(json.dumps(record, indent=1))
        except OSError as error:
            raise AtomThinkError(f"`--json {json_file}` cannot be written: {error.strerror}") from None


def report_rows(run: Run) -> list[StepReportRow]:
    """Returns a row for each task, and one for each value of the task's headline grouping if it has one."""
    rows = []
    for task, samples in run.samples.items():
        rows.append(_row(task, "all", samples))
        parts: dict[str, list[Sample]] = {}
        for sample in samples:
            for part in _parts(sample):
                parts.setdefault(part, []).append(sample)
        rows += [_row(task, part, parts[part]) for part in sorted(parts)]
    return rows


def _row(task: str, part: str, samples: Sequence[Sample]) -> StepReportRow:
    answered = [sample for sample in samples if sample.state == "answered"]
    tokens = [float(s.counts["output_tokens"]) for s in answered if s.counts.get("output_tokens") is not None]
    scores = [chain for sample in answered if (chain := _scores(sample))]
    return StepReportRow(
        task=task,
        part=part,
        questions=len(samples),
        failed=len(samples) - len(answered),
        tokens=_mean(tokens),
        score=_mean([score for chain in scores for score in chain]),
        worst=_mean([min(chain) for chain in scores]),
        **summarize([step_quality(sample.reply) for sample in answered]),
    )


def scored_steps(samples: Iterable[Sample]) -> list[ReportedStep]:
    """Returns the scored steps of the replies that have as many steps as scores."""
    found = []
    for sample in samples:
        texts, scores = split_steps(sample.reply), sample.counts.get("step_scores") or ()
        if len(texts) != len(scores):
            continue
        for index, (text, score) in enumerate(zip(texts, scores, strict=True)):
            if score is not None:
                found.append(ReportedStep(sample.task, sample.doc_id, index, text, score))
    return found


def ability_scores(samples: Iterable[Sample]) -> list[AbilityScore]:
    """Returns the step scores by ability, which keywords determine. The list is empty if no scorer ran."""
    chains: dict[tuple[str, int], list[tuple[str, float]]] = {}
    for step in scored_steps(samples):
        chains.setdefault((step.task, step.doc_id), []).append((step.text, step.score))
    return score_abilities(list(chains.values()), KeywordLabeller(), load_taxonomy())


def _parts(sample: Sample) -> tuple[str, ...]:
    groups: Mapping[str, Sequence[str]] = sample.fields.get("breakdown", {}).get("groups", {})
    return tuple(next(iter(groups.values()), ()))


def _scores(sample: Sample) -> list[float]:
    return [score for score in sample.counts.get("step_scores") or () if score is not None]


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _table(task: str, rows: Sequence[StepReportRow]) -> Grid:
    headings = ("", "questions", "no reply", "steps", "well formed", "repeated", "tokens", "score", "worst")
    cells = []
    for row in rows:
        shares = [_cell(value, ".1%") for value in (row.well_formed, row.repeated)]
        scores = [_cell(value, ".3f") for value in (row.score, row.worst)]
        numbers = (str(row.questions), str(row.failed), _cell(row.per_answer, ".2f"), *shares)
        cells.append((row.part, *numbers, _cell(row.tokens, ".0f"), *scores))
    return Grid(task, headings, cells)


def _ability_table(scores: Sequence[AbilityScore]) -> Grid:
    cells = [(row.ability, str(row.steps), f"{row.mean:.3f}", f"{row.worst:.3f}") for row in scores]
    return Grid("step scores by ability", ("ability", "steps", "score", "worst"), cells)


def _cell(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
