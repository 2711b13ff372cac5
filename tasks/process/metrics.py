"""The line of the samples file for one document, and the metrics of the tasks computed from these lines.

The metrics are those of `atomthink prm eval`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any, Final

from atomthink_plugin.step_metrics.best_threshold import best_threshold
from atomthink_plugin.step_metrics.bootstrap import MetricValue
from atomthink_plugin.step_metrics.judged_steps import JudgedSteps, StepLabels
from atomthink_plugin.step_metrics.measure import Metrics, measure
from atomthink_plugin.tasks.process.documents import Document, truth_of
from atomthink_plugin.tasks.process.replies import CriticReply, Vote, read_reply, vote_on_first_error, vote_on_steps
from atomthink_plugin.tasks.unprinted import Unprinted

Line = Mapping[str, Any]
Headline = Callable[[Metrics], MetricValue]

CHOSEN_ON: Final = "fixed"
"""Where the threshold of a critic was chosen: before the run, which has no other data."""


def visualprocessbench_replies(doc: Document, results: Sequence[Any]) -> dict[str, Line]:
    """Reads the replies about each step; several vote on each step."""
    return _sample_line(doc, results, vote_on_steps, "overall_pooled")


def prmbench_replies(doc: Document, results: Sequence[Any]) -> dict[str, Line]:
    """Reads the replies about each step; several vote on each step."""
    return _sample_line(doc, results, vote_on_steps, "prmscore")


def processbench_json_replies(doc: Document, results: Sequence[Any]) -> dict[str, Line]:
    """Reads the replies about each step; several vote on each step."""
    return _sample_line(doc, results, vote_on_steps, "first_error_f1")


def first_error_replies(doc: Document, results: Sequence[Any]) -> dict[str, Line]:
    """Reads the replies about the first wrong step; several vote on it."""
    return _sample_line(doc, results, vote_on_first_error, "first_error_f1")


def _sample_line(doc: Document, results: Sequence[Any], vote: Vote, headline: str) -> dict[str, Line]:
    """Returns the same line for each metric of a task.

    Args:
        doc: The document.
        results: Its replies: a list with one list, since the tasks leave all repeats to the vote.
        vote: Makes one reply of several.
        headline: The name of the task's first metric.
    """
    truth = truth_of(doc)
    given = results[0] if isinstance(results[0], list) else results
    replies = [read_reply(text, len(doc["steps"]), truth.subset) for text in given]
    repeats = [_said(reply) for reply in replies] if len(replies) > 1 else []
    line = {**asdict(truth), **_said(vote(replies)), "replies": repeats}
    return dict.fromkeys((headline, "critic", "report"), line)


def _said(reply: CriticReply) -> dict[str, Any]:
    threshold = None if reply.threshold is None else asdict(reply.threshold)
    scores = None if reply.scores is None else list(reply.scores)
    return {"verdicts": list(reply.verdicts), "scores": scores, "threshold": threshold, "invalid": reply.invalid}


def _judged(lines: Sequence[Line]) -> list[JudgedSteps]:
    return [_judged_by(line, line) for line in lines]


def _judged_by(line: Line, said: Line) -> JudgedSteps:
    truth = StepLabels(line["question"], tuple(line["labels"]), line["subset"], line["right"])
    scores = None if said["scores"] is None else tuple(said["scores"])
    return JudgedSteps(truth, tuple(said["verdicts"]), scores)


# --- the headline of each set: one number ------------------------------------------------------------


def _prm_score(found: Metrics) -> MetricValue:
    assert found.prm_score is not None
    return found.prm_score.all["score"]


HEADLINES: Final[Mapping[str, Headline]] = {
    "overall_pooled": lambda found: found.steps.all["macro_f1"],
    "first_error_f1": lambda found: found.first_error.all["f1"],
    "prmscore": _prm_score,
}
"""VisualProcessBench: macro-F1 over all steps. ProcessBench: F1 of first errors. PRMBench: PRMScore."""


def overall_pooled(lines: Sequence[Line]) -> float | None:
    """Returns macro-F1 over all labelled steps."""
    return _headline(lines, "overall_pooled")


def first_error_f1(lines: Sequence[Line]) -> float | None:
    """Returns ProcessBench's F1 over all solutions."""
    return _headline(lines, "first_error_f1")


def prmscore(lines: Sequence[Line]) -> float | None:
    """Returns PRMBench's PRMScore."""
    return _headline(lines, "prmscore")


def _headline(lines: Sequence[Line], name: str) -> float | None:
    return HEADLINES[name](measure(_judged(lines), prmbench=name == "prmscore", intervals=False)).value


# --- the summary of each set, to four digits: what a report of it needs --------------------------------


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def visualprocessbench_summary(lines: Sequence[Line]) -> dict[str, Any]:
    """Returns the three overall numbers, macro-F1 by source, and what all sets have."""
    steps = measure(_judged(lines), intervals=False).steps
    return {
        "overall_pooled": _short(steps.all["macro_f1"].value),
        "overall_weighted": _short(steps.weighted.value),
        "overall_mean": _short(steps.mean.value),
        "f1_right": _short(steps.all["f1_right"].value),
        "f1_wrong": _short(steps.all["f1_wrong"].value),
        "sources": {name: _short(values["macro_f1"].value) for name, values in steps.subsets.items()},
        **_common(lines, "overall_pooled"),
    }


def first_error_summary(lines: Sequence[Line]) -> dict[str, Any]:
    """Returns the accuracies on solutions with a wrong step and without one, their F1, and what all sets have."""
    found = measure(_judged(lines), intervals=False).first_error
    return {
        "first_error_f1": _short(found.all["f1"].value),
        "accuracy_error": _short(found.all["wrong"].value),
        "accuracy_correct": _short(found.all["right"].value),
        **_common(lines, "first_error_f1"),
    }


def prmbench_summary(lines: Sequence[Line]) -> dict[str, Any]:
    """Returns PRMScore with its groups, the accuracy on unmodified solutions, and what all sets have."""
    found = measure(_judged(lines), prmbench=True, intervals=False).prm_score
    assert found is not None
    return {
        "prmscore": _short(found.all["score"].value),
        "prmscore_of_valid": _short(found.of_valid.value),
        "accuracy_original": _short(found.all["original"].value),
        "first_error": _short(found.all["first_error"].value),
        **{name: _short(value.value) for name, value in found.groups.items()},
        **_common(lines, "prmscore"),
    }


def _common(lines: Sequence[Line], headline: str) -> dict[str, Any]:
    """Returns invalid replies, the threshold and where it was chosen, and what single replies reach before a vote."""
    replies = [said for line in lines for said in line["replies"] or [line]]
    count = max(len(line["replies"] or [line]) for line in lines)
    invalid = sum(bool(said["invalid"]) for said in replies)
    found = {"invalid": invalid, "of": len(replies), **_threshold(replies), **_oracle(lines, headline)}
    if count > 1:
        singles = [one for one in _singles(lines, count, headline) if one is not None]
        found |= {"vote": f"maj@{count}", f"{headline}_of_single_replies": _short(fmean(singles)) if singles else None}
    return found


def _threshold(replies: Sequence[Line]) -> dict[str, Any]:
    """Returns the threshold of the scores; a critic that gives verdicts has none."""
    used = {tuple(said["threshold"].values()) for said in replies if said["threshold"] is not None}
    if not used:
        return {}
    shown = [f"{'>' if strict else '>='} {value:g}" for value, strict in sorted(used)]
    return {"right_if_score": " or ".join(shown), "threshold_chosen_on": CHOSEN_ON}


def _oracle(lines: Sequence[Line], headline: str) -> dict[str, Any]:
    """Returns the best threshold on this very set, which no result may use; a critic that gives verdicts has none."""
    best = best_threshold(_judged(lines), "first_error_f1" if headline == "first_error_f1" else "macro_f1")
    return {} if best is None else {"oracle_threshold": _short(best.threshold), "oracle_f1": _short(best.f1)}


def _singles(lines: Sequence[Line], count: int, headline: str) -> Iterator[float | None]:
    for at in range(count):
        judged = [_judged_by(line, line["replies"][at]) for line in lines if len(line["replies"]) > at]
        found = measure(judged, prmbench=headline == "prmscore", intervals=False)
        yield HEADLINES[headline](found).value


# --- the whole report, in the results file only --------------------------------------------------------


def report(lines: Sequence[Line]) -> Unprinted:
    """Returns all metrics with their intervals, as `atomthink prm eval --json` has them."""
    return _report(lines, prmbench=False)


def prmbench_report(lines: Sequence[Line]) -> Unprinted:
    """As `report`, with PRMBench's own metrics."""
    return _report(lines, prmbench=True)


def _report(lines: Sequence[Line], prmbench: bool) -> Unprinted:
    reasons = Counter(said["invalid"] for line in lines for said in line["replies"] or [line] if said["invalid"])
    return Unprinted({**asdict(measure(_judged(lines), prmbench)), "invalid_reasons": dict(reasons.most_common())})
