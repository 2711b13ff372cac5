"""The quality of a run's atomic steps: what `atomthink steps` prints.

Everything is in the samples files, which the harness gathers over processes: replies, tokens and, where a scorer
ran, the score of each step of the chosen path. `process_results` sees none but the reply, and the journal has the
trees by another key, on the machines that ran.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.formats.steps import split_steps
from atomthink_plugin.report.run_samples import Run, Sample, read_run
from atomthink_plugin.tables import Grid, print_grid
from atomthink_plugin.tasks.capability.ability_scores import AbilityScore, by_ability
from atomthink_plugin.tasks.capability.labellers import KeywordLabeller
from atomthink_plugin.tasks.capability.taxonomy import load_taxonomy
from atomthink_plugin.tasks.step_quality import mean, quality, summary


@dataclass(frozen=True, slots=True)
class ScoredStep:
    """One step of a reply with the scorer's verdict.

    Attributes:
        task: The task.
        doc_id: The question.
        index: Which of the reply's steps, from 0.
        text: The step.
        score: In [0, 1].
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
        part: Which of its questions: `all`, or a value of the headline grouping.
        questions: How many.
        failed: How many of them failed or have no reply; the rest is about the others.
        per_answer: Steps per answer.
        well_formed: Share of answers whose steps are all valid and that conclude.
        repeated: Share of steps that repeat themselves or an earlier one.
        tokens: Tokens generated per answer, None where the model tells none.
        score: Mean of all step scores, None where no scorer ran.
        worst: Mean over answers of the lowest step score.
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


def report(run: Run) -> list[StepReportRow]:
    """Returns each task's row, and one for each value of its headline grouping if it has one."""
    rows = []
    for task, samples in run.samples.items():
        rows.append(row(task, "all", samples))
        parts: dict[str, list[Sample]] = {}
        for sample in samples:
            for part in _parts(sample):
                parts.setdefault(part, []).append(sample)
        rows += [row(task, part, parts[part]) for part in sorted(parts)]
    return rows


def row(task: str, part: str, samples: Sequence[Sample]) -> StepReportRow:
    """Returns the row of some samples of a task."""
    answered = [sample for sample in samples if sample.state == "answered"]
    tokens = [float(s.counts["output_tokens"]) for s in answered if s.counts.get("output_tokens") is not None]
    scores = [kept for sample in answered if (kept := _scores(sample))]
    return StepReportRow(
        task=task,
        part=part,
        questions=len(samples),
        failed=len(samples) - len(answered),
        tokens=mean(tokens),
        score=mean([score for chain in scores for score in chain]),
        worst=mean([min(chain) for chain in scores]),
        **summary([quality(sample.reply) for sample in answered]),
    )


def scored_steps(samples: Iterable[Sample]) -> list[ScoredStep]:
    """Returns the scored steps with their texts, of all replies that still divide into the steps that were scored."""
    found = []
    for sample in samples:
        texts, scores = split_steps(sample.reply), sample.counts.get("step_scores") or ()
        if len(texts) != len(scores):
            continue
        for i, (text, score) in enumerate(zip(texts, scores, strict=True)):
            if score is not None:
                found.append(ScoredStep(sample.task, sample.doc_id, i, text, score))
    return found


def abilities(samples: Iterable[Sample]) -> list[AbilityScore]:
    """Returns the step scores by ability, told by the steps' words; empty where no scorer ran."""
    chains: dict[tuple[str, int], list[tuple[str, float]]] = {}
    for step in scored_steps(samples):
        chains.setdefault((step.task, step.doc_id), []).append((step.text, step.score))
    return by_ability(list(chains.values()), KeywordLabeller(), load_taxonomy())


def show(run: Path, file: Path | None) -> None:
    """Prints a run's step quality.

    Args:
        run: See `read_run`.
        file: Where the rows and the scored steps go as JSON, if anywhere.

    Raises:
        AtomThinkError: There is no such run, or the file cannot be written.
    """
    read = read_run(run)
    rows = report(read)
    found = {task: abilities(samples) for task, samples in read.samples.items()}
    for task in read.samples:
        print_grid(_table(task, [one for one in rows if one.task == task]))
        if found[task]:
            print_grid(_ability_table(found[task]))
    if file is not None:
        record = {
            "rows": [asdict(one) for one in rows],
            "abilities": {task: [asdict(one) for one in scores] for task, scores in found.items()},
            "steps": [asdict(step) for samples in read.samples.values() for step in scored_steps(samples)],
        }
        try:
            file.write_text(json.dumps(record, indent=1))
        except OSError as error:
            raise AtomThinkError(f"`--json {file}` cannot be written: {error.strerror}") from None


def _parts(sample: Sample) -> tuple[str, ...]:
    groups: Mapping[str, Sequence[str]] = sample.fields.get("breakdown", {}).get("groups", {})
    return tuple(next(iter(groups.values()), ()))


def _scores(sample: Sample) -> list[float]:
    return [score for score in sample.counts.get("step_scores") or () if score is not None]


def _table(task: str, rows: Sequence[StepReportRow]) -> Grid:
    headings = ("", "questions", "no reply", "steps", "well formed", "repeated", "tokens", "score", "worst")
    cells = []
    for one in rows:
        shares = [_shown(value, ".1%") for value in (one.well_formed, one.repeated)]
        scores = [_shown(value, ".3f") for value in (one.score, one.worst)]
        numbers = (str(one.questions), str(one.failed), _shown(one.per_answer, ".2f"), *shares)
        cells.append((one.part, *numbers, _shown(one.tokens, ".0f"), *scores))
    return Grid(task, headings, cells)


def _ability_table(scores: Sequence[AbilityScore]) -> Grid:
    cells = [(one.ability, str(one.steps), f"{one.mean:.3f}", f"{one.worst:.3f}") for one in scores]
    return Grid("step scores by ability", ("ability", "steps", "score", "worst"), cells)


def _shown(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
