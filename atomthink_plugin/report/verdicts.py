"""Verdicts on replies, read from the metrics that a task of lmms-eval logs.

The harness logs the return value of a task's `process_results`. Its form depends on the task: a number, a list with
one number, a mapping with the verdict in one of its fields, or only the extracted and the right option, which the
task compares when it aggregates.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from atomthink_plugin.report.run_samples import Run, Sample

_PARTS: Final = (
    *("correct", "is_correct", "true_false", "match_success"),
    *("score", "scores", "acc_score", "acc", "accuracy", "overall", "exact_match"),
)
"""Fields with the verdict in a metric that is logged as a mapping, the most specific first."""

_EXTRACTED: Final = ("parsed_pred", "pred_answer", "pred")
"""Fields with the option extracted from the reply. `prediction` is the whole reply, which a judge compares."""

_WORDS: Final = {"true": 1.0, "correct": 1.0, "right": 1.0, "false": 0.0, "incorrect": 0.0, "wrong": 0.0}

_OPTION: Final = re.compile(r"[A-Za-z]")

_NO_VERDICT: Final = frozenset(
    ("format", "extracted", "submission", "parse", "valid", "answered", "error", "fail", "failure", "ratio", "rate")
)
"""Words in the names of metrics that do not measure whether the answer is right."""

_ANSWERS: Final = ("naturalbench", "cambench")
"""Tasks whose `score` is the answer, 1 for yes. They judge questions only in pairs."""


class Verdicts:
    """The verdicts of a task's samples.

    A verdict is a metric for which higher is better and that is 0 or 1 for every question that has it. Among several
    metrics, the one with the most questions is used, then the first of the task. Metrics for parts of the questions,
    perception and cognition of MME for example, are combined if no question has two of them.

    Args:
        run: The run.
        task: The task.

    Attributes:
        names: The metrics in use, empty if the task has no verdicts.
        scorer: The metrics, the filter and the version of the task, None if the task has no verdicts.
        missing: Notes about questions without a verdict.
    """

    def __init__(self, run: Run, task: str) -> None:
        samples = run.samples[task]
        scores = {name: _scores(samples, name) for name in _metrics(run, task)}
        shares = [name for name, values in scores.items() if any(value not in (0, 1) for value in values.values())]
        usable = {name: values for name, values in scores.items() if values and name not in shares}
        self.names: list[str] = []
        self._found: dict[int, float] = {}
        for name in sorted(usable, key=lambda name: (name != "correct", -len(usable[name]))):
            if not self._found.keys() & usable[name].keys():
                self.names.append(name)
                self._found |= usable[name]
        self.scorer = _scorer(run, task, self.names)
        self.missing = _missing(task, samples, len(self._found), list(scores), shares)

    def of(self, sample: Sample) -> bool | None:
        """Returns the verdict on a sample, or None."""
        score = self._found.get(sample.doc_id)
        return None if score is None else bool(score)


def score_of(logged: Any) -> float | None:
    """Returns the score of a reply from any form in which metrics are logged, or None.

    Example:
        >>> score_of({"response": ["7"], "scores": [False]})
        0.0
    """
    if isinstance(logged, (bool, int, float)):
        return None if math.isnan(logged) else float(logged)
    if isinstance(logged, str):
        return _of_text(logged)
    if isinstance(logged, Mapping):
        part = next((name for name in _PARTS if name in logged), None)
        return _compared(logged) if part is None else _first(logged[part])
    if isinstance(logged, Sequence) and len(logged) == 1:
        return score_of(logged[0])
    return None


def _of_text(logged: str) -> float | None:
    """Reads a score from text. Numbers of numpy are logged as text."""
    word = logged.strip().lower()
    if word in _WORDS:
        return _WORDS[word]
    try:
        number = float(word)
    except ValueError:
        return None
    return None if math.isnan(number) else number


def _first(logged: Any) -> float | None:
    """Returns the first score. A task that scores several replies to one question logs a list."""
    if isinstance(logged, Sequence) and not isinstance(logged, str):
        return score_of(logged[0]) if logged else None
    return score_of(logged)


def _compared(logged: Mapping[str, Any]) -> float | None:
    """Compares the extracted option with the right option, or follows MMMU for questions without options."""
    field = next((name for name in _EXTRACTED if name in logged), None)
    reference = logged.get("answer", logged.get("ground_truth"))
    if field is None or reference is None:
        return None
    found = logged[field]
    if logged.get("question_type") == "open":
        return float(_open_answer_agrees(reference, found))
    if isinstance(found, list):
        found = found[0] if found else ""
    if not (isinstance(reference, str) and isinstance(found, str) and _OPTION.fullmatch(reference.strip())):
        return None
    return float(found.strip().lower() == reference.strip().lower())


def _open_answer_agrees(reference: Any, found: Any) -> bool:
    """MMMU's rule: an extracted number equals the reference, or an extracted text contains the reference."""
    if isinstance(found, list) and found and isinstance(found[0], list):
        found = found[0]  # a list for each reply
    references = reference if isinstance(reference, list) else [reference]
    known = [form for one in references for form in _normalized(str(one))]
    return any(
        any(isinstance(form, str) and form in one for form in known) if isinstance(one, str) else one in known
        for one in found
    )


def _normalized(text: str) -> list[str | float]:
    """Returns a number rounded to two digits, or the lower-case text. A single letter must be at a word boundary."""
    word = text.strip()
    try:
        return [round(float(word.replace(",", "")), 2)]
    except ValueError:
        word = word.lower()
    return [f" {word}", f"{word} "] if len(word) == 1 else [word]


def _metrics(run: Run, task: str) -> list[str]:
    better = run.results.get("higher_is_better", {}).get(task, {})
    names = [name for name, more in better.items() if more is not False and not name.startswith(_ANSWERS)]
    return ["correct", *(name for name in names if name != "correct" and not _NO_VERDICT & {*name.split("_")})]


def _scores(samples: Sequence[Sample], name: str) -> dict[int, float]:
    found = ((sample.doc_id, score_of(sample.fields.get(name))) for sample in samples)
    return {doc_id: score for doc_id, score in found if score is not None}


def _scorer(run: Run, task: str, names: Sequence[str]) -> str | None:
    if not names:
        return None
    # Results are named `metric,filter` in the order of the task's filters. Samples of the first filter are read.
    numbers = run.results.get("results", {}).get(task, {})
    used = next((key.partition(",")[2] for key in numbers if key.startswith(f"{names[0]},")), "none")
    through = "" if used == "none" else f" ({used})"
    return f"{', '.join(names)}{through} of {task} {run.results.get('versions', {}).get(task)}"


def _missing(
    task: str, samples: Sequence[Sample], found: int, metrics: Sequence[str], shares: Sequence[str]
) -> list[str]:
    lacking = len(samples) - found
    if not lacking:
        return []
    if any("correct" in sample.fields and sample.fields["correct"] is None for sample in samples):
        reason = "their reference answers are not public"
    elif shares:
        reason = f"its `{', '.join(shares)}` is neither 0 nor 1 for some questions"
    elif names := [name for name in metrics if name != "correct"]:
        reason = f"its `{', '.join(names)}` does not score single replies as right or wrong"
    else:
        reason = "it has no metric for which higher is better"
    return [f"no verdicts for {lacking} of {len(samples)} questions of `{task}`: {reason}"]
