"""Comparisons of runs of the same questions: accuracy, paired tests, categories and cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, Final

from atomthink_plugin.accuracy_stats import Estimate, holm, mcnemar, mean_wilson, paired_difference
from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.report.run_reader import RecordedRun, RunQuestion

Id = tuple[str, int, int, str | None]
"""The identity of a question in all runs: task, document, repeat and reference answer."""

_SHOWN: Final = 3


@dataclass(frozen=True, slots=True)
class Contrast:
    """A run compared with the first run on the same questions.

    Attributes:
        difference: Its accuracy minus the first run's, with the paired 95 % interval.
        won: Number of questions that only this run answers correctly.
        lost: Number of questions that only the first run answers correctly.
        p: McNemar's exact p-value.
    """

    difference: Estimate
    won: int
    lost: int
    p: float


@dataclass(frozen=True, slots=True)
class RunComparison:
    """The row of one run in a comparison.

    Costs are None if the model does not report them.

    Attributes:
        run: The name of the run.
        thinking: Its thinking mode and search, as far as they are recorded.
        questions: Number of compared questions.
        failed: Number of failed questions. They count as wrong, and their cost counts.
        accuracy: Accuracy with its 95 % interval.
        contrast: The comparison with the first run, None for the first run.
        tokens: Tokens sampled from policies and by a generative scorer, per question.
        prm_calls: Scored steps per question.
        seconds: Wall-clock seconds of the run divided by its questions.
        latency: Seconds from a question's first call to its outcome, with other questions in flight.
    """

    run: str
    thinking: str
    questions: int
    failed: int
    accuracy: Estimate
    contrast: Contrast | None
    tokens: float | None
    prm_calls: float | None
    seconds: float | None
    latency: float | None


@dataclass(frozen=True, slots=True)
class Category:
    """One category of the questions, for one run compared with the first.

    Attributes:
        run: The run.
        grouping: The grouping of the task.
        value: The category.
        questions: Number of questions.
        first: The first run's accuracy.
        accuracy: This run's accuracy.
        contrast: The comparison.
        p: McNemar's p-value, corrected for all categories of this run (Holm).
    """

    run: str
    grouping: str
    value: str
    questions: int
    first: Estimate
    accuracy: Estimate
    contrast: Contrast
    p: float


@dataclass(frozen=True, slots=True)
class PairedRuns:
    """Runs reduced to the compared questions.

    Attributes:
        runs: The runs, each with the same questions in the same order.
        skipped: Notes about skipped questions.
    """

    runs: Sequence[RecordedRun]
    skipped: Sequence[str]


def pair(runs: Sequence[RecordedRun], common: bool = False, any_scorer: bool = False) -> PairedRuns:
    """Reduces runs to the questions to compare.

    Args:
        runs: Two or more runs.
        common: Whether to skip questions that not all runs have.
        any_scorer: Whether the verdicts may come from different scorers.

    Raises:
        AtomThinkError: The runs have different questions or scorers, or no common question with verdicts.
    """
    runs = _named(runs)
    unscored = next((run for run in runs if run.scorer is None), None)
    if unscored is not None:
        reason = "; ".join(unscored.missing) or "its tasks do not score single replies"
        raise AtomThinkError(f"`{unscored.name}` has no verdicts ({reason})")
    known = [{_id(one): one for one in run.questions} for run in runs]
    if not common:
        _same_questions(runs, known)
    shared = [key for key in known[0] if all(key in other for other in known)]
    judged = [key for key in shared if all(one[key].correct is not None for one in known)]
    if not judged:
        raise AtomThinkError("the runs have no common question with verdicts: " + _differences(runs, known))
    if not any_scorer:
        _same_scorer({run.name: [one[key] for key in judged] for run, one in zip(runs, known, strict=True)})
    reduced = [replace(run, questions=[one[key] for key in judged]) for run, one in zip(runs, known, strict=True)]
    counts = {run.name: len(one) - len(shared) for run, one in zip(runs, known, strict=True)}
    notes = [
        f"`{name}`: {count} questions that not all runs have are skipped" for name, count in counts.items() if count
    ]
    if len(shared) > len(judged):
        notes.append(f"{len(shared) - len(judged)} questions without a verdict are skipped")
    return PairedRuns(reduced, notes)


def rows(paired: PairedRuns) -> list[RunComparison]:
    """Returns the row of each run."""
    first = paired.runs[0]
    return [_row(run, None if run is first else contrast(first.questions, run.questions)) for run in paired.runs]


def categories(paired: PairedRuns) -> list[Category]:
    """Returns the categories of each run except the first, the largest loss first, with p-values corrected per run."""
    first, *others = paired.runs
    found = []
    for run in others:
        parts = [_category(run, first, key, places) for key, places in _places(first.questions).items()]
        corrected = holm([part.contrast.p for part in parts])
        own = [replace(part, p=p) for part, p in zip(parts, corrected, strict=True)]
        found += sorted(own, key=lambda part: (part.grouping, part.contrast.difference[0]))
    return found


def contrast(first: Sequence[RunQuestion], second: Sequence[RunQuestion]) -> Contrast:
    """Returns the comparison of the second run with the first on the same questions."""
    before, after = verdicts(first), verdicts(second)
    won = sum(b and not a for a, b in zip(before, after, strict=True))
    lost = sum(a and not b for a, b in zip(before, after, strict=True))
    return Contrast(paired_difference(before, after), won, lost, mcnemar(before, after))


def verdicts(questions: Iterable[RunQuestion]) -> list[bool]:
    """Returns the verdicts."""
    return [bool(one.correct) for one in questions]


def thinking(settings: Mapping[str, Any]) -> str:
    """Returns a run's thinking mode and search, as `slow beam beams=2 candidates=3`, or its model arguments."""
    if "thinking" not in settings:
        return str(settings.get("model_args") or "")
    search = dict(settings["search"])
    name = search.pop("name")
    own = [f"{key}={value}" for key, value in search.items()]
    return " ".join([settings["thinking"], *([name] if name != settings["thinking"] else []), *own])


def tokens_of(questions: Iterable[RunQuestion]) -> float | None:
    """Returns the sampled tokens per question, None if a question has no count."""
    return _mean(questions, lambda one: one.tokens)


def _row(run: RecordedRun, against: Contrast | None) -> RunComparison:
    questions = run.questions
    return RunComparison(
        run=run.name,
        thinking=thinking(run.settings),
        questions=len(questions),
        failed=sum(one.failed is not None for one in questions),
        accuracy=mean_wilson([float(right) for right in verdicts(questions)]),
        contrast=against,
        tokens=tokens_of(questions),
        prm_calls=_mean(questions, lambda one: one.prm_calls),
        seconds=run.pace,
        latency=_mean(questions, lambda one: one.seconds),
    )


def _mean(questions: Iterable[RunQuestion], of: Callable[[RunQuestion], float | None]) -> float | None:
    """Returns the mean over all questions, None if a value is missing. Failed questions without a value count as 0."""
    values = [0.0 if value is None and one.failed is not None else value for one in questions for value in (of(one),)]
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None


def _category(run: RecordedRun, first: RecordedRun, key: tuple[str, str], places: Sequence[int]) -> Category:
    before = [first.questions[i] for i in places]
    after = [run.questions[i] for i in places]
    return Category(
        run=run.name,
        grouping=key[0],
        value=key[1],
        questions=len(places),
        first=mean_wilson([float(right) for right in verdicts(before)]),
        accuracy=mean_wilson([float(right) for right in verdicts(after)]),
        contrast=contrast(before, after),
        p=1.0,
    )


def _places(questions: Sequence[RunQuestion]) -> dict[tuple[str, str], list[int]]:
    found: dict[tuple[str, str], list[int]] = {}
    for i, one in enumerate(questions):
        for grouping, values in one.groups.items():
            for value in values:
                found.setdefault((grouping, value), []).append(i)
    return found


# --- checks ---------------------------------------------------------------------------------------


def _id(one: RunQuestion) -> Id:
    return (*one.id, one.target)


def _named(runs: Sequence[RecordedRun]) -> list[RecordedRun]:
    """Adds a number to equal names of runs."""
    names = [run.name for run in runs]
    return [
        run if names.count(run.name) == 1 else replace(run, name=f"{run.name} ({names[: i + 1].count(run.name)})")
        for i, run in enumerate(runs)
    ]


def _same_questions(runs: Sequence[RecordedRun], known: Sequence[Mapping[Id, RunQuestion]]) -> None:
    if any(one.keys() != known[0].keys() for one in known[1:]):
        raise AtomThinkError(
            f"the runs do not have the same questions ({_differences(runs, known)}). Pass `--common` to compare only "
            "the questions that all runs have"
        )


def _same_scorer(judged: Mapping[str, Sequence[RunQuestion]]) -> None:
    scorers = {name: "; ".join(sorted({one.scorer or "" for one in questions})) for name, questions in judged.items()}
    if len(set(scorers.values())) > 1:
        raise AtomThinkError(
            f"the verdicts come from different scorers ({_listed(scorers)}), which may cause a difference. Score the "
            "runs again with one scorer, or pass `--any-scorer` to compare them anyway"
        )


def _differences(runs: Sequence[RecordedRun], known: Sequence[Mapping[Id, RunQuestion]]) -> str:
    tasks = {run.name: ", ".join(run.tasks) for run in runs}
    if len(set(tasks.values())) > 1:
        return f"different tasks ({_listed(tasks)})"
    first = known[0].keys()
    found = []
    for run, one in zip(runs[1:], known[1:], strict=True):
        lacking, extra = [key for key in first if key not in one], [key for key in one if key not in first]
        if lacking:
            found.append(f"`{run.name}` lacks {len(lacking)} of `{runs[0].name}` ({_examples(lacking)})")
        if extra:
            found.append(f"`{run.name}` has {len(extra)} more ({_examples(extra)})")
    return "; ".join(found) or "no verdicts"


def _examples(keys: Sequence[Id]) -> str:
    shown = ", ".join(f"{task} {doc_id}, answer {target}" for task, doc_id, _, target in keys[:_SHOWN])
    return shown + (", ..." if len(keys) > _SHOWN else "")


def _listed(values: Mapping[str, object]) -> str:
    return "; ".join(f"`{name}`: {value}" for name, value in values.items())
