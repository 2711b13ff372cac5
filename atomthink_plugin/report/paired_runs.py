"""Runs of the same questions, compared: accuracy, paired tests, categories and cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, Final

from atomthink_plugin.accuracy_stats import Estimate, holm, mcnemar, mean_wilson, paired_difference
from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.report.run_reader import Answered, Recorded

Id = tuple[str, int, int, str | None]
"""A question in every run of it: task, document, repeat and reference answer."""

_SHOWN: Final = 3


@dataclass(frozen=True, slots=True)
class Contrast:
    """A run against the first one, on the same questions.

    Attributes:
        difference: By how much its accuracy is higher, with the paired 95 % interval.
        won: Questions it alone gets right.
        lost: Questions the first alone gets right.
        p: McNemar's exact p-value.
    """

    difference: Estimate
    won: int
    lost: int
    p: float


@dataclass(frozen=True, slots=True)
class Row:
    """One run.

    Attributes:
        run: Its name.
        thinking: Its way of thinking, as far as it is recorded.
        questions: How many it shares with the others.
        failed: How many of them failed; they count as wrong, and what they spent counts.
        accuracy: With its 95 % interval.
        contrast: Against the first run, None for that one itself.
        tokens: Policy tokens per question, None if the model reports none; likewise the next three.
        prm_calls: Steps scored per question.
        seconds: Wall-clock seconds of the run, divided by its questions.
        latency: Seconds from a question's first call to its outcome, with others in flight.
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
    """One category of the questions, for one run against the first.

    Attributes:
        run: The run.
        grouping: Which of the task's groupings.
        value: The category.
        questions: How many.
        first: The first run's accuracy.
        accuracy: This run's.
        contrast: One against the other.
        p: McNemar's, corrected for all categories of this run (Holm).
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
class Paired:
    """Runs reduced to the questions that are compared.

    Attributes:
        runs: The runs, each with the same questions in the same order.
        left_out: Messages about the questions that were left out.
    """

    runs: Sequence[Recorded]
    left_out: Sequence[str]


def pair(runs: Sequence[Recorded], common: bool = False, any_scorer: bool = False) -> Paired:
    """Brings runs to the same questions.

    Args:
        runs: Two or more.
        common: Whether questions that not all of them have are left out.
        any_scorer: Whether their verdicts may come from different scorers.

    Raises:
        AtomThinkError: They have different questions or scorers, or nothing to compare.
    """
    runs = _named(runs)
    dumb = next((run for run in runs if run.scorer is None), None)
    if dumb is not None:
        raise AtomThinkError(f"`{dumb.name}` has no verdicts: {'; '.join(dumb.missing) or 'its tasks give none'}")
    known = [{_id(one): one for one in run.questions} for run in runs]
    if not common:
        _same_questions(runs, known)
    shared = [key for key in known[0] if all(key in other for other in known)]
    judged = [key for key in shared if all(one[key].correct is not None for one in known)]
    if not judged:
        raise AtomThinkError("the runs have no judged question in common: " + _differences(runs, known))
    if not any_scorer:
        _same_scorer({run.name: [one[key] for key in judged] for run, one in zip(runs, known, strict=True)})
    reduced = [replace(run, questions=[one[key] for key in judged]) for run, one in zip(runs, known, strict=True)]
    counts = {run.name: len(one) - len(shared) for run, one in zip(runs, known, strict=True)}
    words = [
        f"`{name}`: {count} questions that not all runs have are left out" for name, count in counts.items() if count
    ]
    if len(shared) > len(judged):
        words.append(f"{len(shared) - len(judged)} questions without a verdict are left out")
    return Paired(reduced, words)


def rows(paired: Paired) -> list[Row]:
    """Returns a row for each run."""
    first = paired.runs[0]
    return [_row(run, None if run is first else contrast(first.questions, run.questions)) for run in paired.runs]


def categories(paired: Paired) -> list[Category]:
    """Returns for each run but the first its categories, corrected together, the worst loss first."""
    first, *others = paired.runs
    found = []
    for run in others:
        parts = [_category(run, first, key, places) for key, places in _places(first.questions).items()]
        corrected = holm([part.contrast.p for part in parts])
        own = [replace(part, p=p) for part, p in zip(parts, corrected, strict=True)]
        found += sorted(own, key=lambda part: (part.grouping, part.contrast.difference[0]))
    return found


def contrast(first: Sequence[Answered], second: Sequence[Answered]) -> Contrast:
    """Returns how the second run does against the first on the same questions."""
    before, after = verdicts(first), verdicts(second)
    won = sum(b and not a for a, b in zip(before, after, strict=True))
    lost = sum(a and not b for a, b in zip(before, after, strict=True))
    return Contrast(paired_difference(before, after), won, lost, mcnemar(before, after))


def verdicts(questions: Iterable[Answered]) -> list[bool]:
    """Returns the verdicts."""
    return [bool(one.correct) for one in questions]


def thinking(settings: Mapping[str, Any]) -> str:
    """Returns how a run thinks in one line: `slow beam beams=2 candidates=3 ...`, or its arguments as typed."""
    if "thinking" not in settings:
        return str(settings.get("model_args") or "")
    search = dict(settings["search"])
    name = search.pop("name")
    own = [f"{key}={value}" for key, value in search.items()]
    return " ".join([settings["thinking"], *([name] if name != settings["thinking"] else []), *own])


def tokens_of(questions: Iterable[Answered]) -> float | None:
    """Returns the policy tokens per question, None if a question has none; see `_mean`."""
    return _mean(questions, lambda one: one.tokens)


def _row(run: Recorded, against: Contrast | None) -> Row:
    questions = run.questions
    return Row(
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


def _mean(questions: Iterable[Answered], of: Callable[[Answered], float | None]) -> float | None:
    """The mean over all questions; failed ones without a record of their cost count as 0."""
    values = [0.0 if value is None and one.failed is not None else value for one in questions for value in (of(one),)]
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None


def _category(run: Recorded, first: Recorded, key: tuple[str, str], places: Sequence[int]) -> Category:
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


def _places(questions: Sequence[Answered]) -> dict[tuple[str, str], list[int]]:
    found: dict[tuple[str, str], list[int]] = {}
    for i, one in enumerate(questions):
        for grouping, values in one.groups.items():
            for value in values:
                found.setdefault((grouping, value), []).append(i)
    return found


# --- what makes a comparison impossible ----------------------------------------------------------


def _id(one: Answered) -> Id:
    return (*one.id, one.target)


def _named(runs: Sequence[Recorded]) -> list[Recorded]:
    """Adds a number to the names of runs that have the same name."""
    names = [run.name for run in runs]
    return [
        run if names.count(run.name) == 1 else replace(run, name=f"{run.name} ({names[: i + 1].count(run.name)})")
        for i, run in enumerate(runs)
    ]


def _same_questions(runs: Sequence[Recorded], known: Sequence[Mapping[Id, Answered]]) -> None:
    if any(one.keys() != known[0].keys() for one in known[1:]):
        raise AtomThinkError(
            f"the runs do not have the same questions: {_differences(runs, known)}. Pass `--common` to compare the "
            "questions that all of them have"
        )


def _same_scorer(judged: Mapping[str, Sequence[Answered]]) -> None:
    scorers = {name: "; ".join(sorted({one.scorer or "" for one in questions})) for name, questions in judged.items()}
    if len(set(scorers.values())) > 1:
        raise AtomThinkError(
            f"the verdicts come from different scorers ({_listed(scorers)}), so that a difference may be theirs: score "
            "the runs again with one of them, or pass `--any-scorer` to compare them nevertheless"
        )


def _differences(runs: Sequence[Recorded], known: Sequence[Mapping[Id, Answered]]) -> str:
    tasks = {run.name: ", ".join(run.tasks) for run in runs}
    if len(set(tasks.values())) > 1:
        return f"different tasks ({_listed(tasks)})"
    first = known[0].keys()
    words = []
    for run, one in zip(runs[1:], known[1:], strict=True):
        lacking, extra = [key for key in first if key not in one], [key for key in one if key not in first]
        if lacking:
            words.append(f"`{run.name}` lacks {len(lacking)} of `{runs[0].name}` ({_examples(lacking)})")
        if extra:
            words.append(f"`{run.name}` has {len(extra)} more ({_examples(extra)})")
    return "; ".join(words) or "no verdicts"


def _examples(keys: Sequence[Id]) -> str:
    shown = ", ".join(f"{task} {doc_id}, answer {target}" for task, doc_id, _, target in keys[:_SHOWN])
    return shown + (", ..." if len(keys) > _SHOWN else "")


def _listed(values: Mapping[str, object]) -> str:
    return "; ".join(f"`{name}`: {value}" for name, value in values.items())
