"""Runs at equal tokens: a run that chose among candidates is reduced to as many as another run's tokens pay for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from atomthink_plugin.accuracy_stats import Estimate, mean_difference, mean_wilson
from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.report.candidates import ALIKE, Sampled, sampled
from atomthink_plugin.report.paired_runs import Paired, tokens_of, verdicts
from atomthink_plugin.report.replay import Method, method_of
from atomthink_plugin.report.run_reader import Recorded
from atomthink_plugin.report.scaling_curve import common_methods, curve, tokens_at


@dataclass(frozen=True, slots=True)
class Cut:
    """A run that spends no more than another.

    Attributes:
        run: The run that is cut.
        other: The one whose tokens it may spend.
        tokens: Those, per question, failed ones included.
        candidates: How many of its candidates they pay for; between two whole numbers it draws either, in proportion.
        accuracy: Its accuracy with them, over random subsets, with the 95 % interval.
        other_accuracy: The other's.
        difference: The run's accuracy less the other's, paired, with its 95 % interval.
    """

    run: str
    other: str
    tokens: float
    candidates: float
    accuracy: Estimate
    other_accuracy: Estimate
    difference: Estimate


def equal_tokens(paired: Paired) -> tuple[list[Cut], list[str]]:
    """Returns every run reduced to the tokens of each cheaper one, and messages about those that cannot be reduced."""
    cuts: list[Cut] = []
    words: list[str] = []
    for run in paired.runs:
        own = tokens_of(run.questions)
        budgets = [(other, tokens_of(other.questions)) for other in paired.runs if other is not run]
        cheaper = [(other, spent) for other, spent in budgets if own is not None and spent is not None and spent < own]
        if not cheaper:
            continue
        try:
            questions, method = _whole(run)
        except AtomThinkError as error:
            words.append(f"`{run.name}` cannot be cut to fewer tokens: {error}")
            continue
        for other, tokens in cheaper:
            if tokens < _tokens(questions, 1):
                words.append(f"the tokens of `{other.name}` do not pay for one candidate of `{run.name}`")
            else:
                cuts.append(_cut(run, questions, method, other, tokens))
    return cuts, words


def _whole(run: Recorded) -> tuple[list[Sampled], Method]:
    """The candidates and how the run chose among them, if every question has them, judged as the task judges."""
    method = method_of(run.settings)
    if method is None:
        raise AtomThinkError("its search does not choose among candidates, or it has no journal")
    questions, judged = sampled(run)
    if len(questions) < len(run.questions):
        raise AtomThinkError(f"{len(run.questions) - len(questions)} questions have no record or no reference answer")
    if max(len(one.candidates) for one in questions) < 2:
        raise AtomThinkError("each question has only one candidate")
    if method not in common_methods(questions):
        raise AtomThinkError(f"not all of its candidates have the scores for {method.name}")
    if judged.agreed < ALIKE * judged.of:
        raise AtomThinkError(judged.words)
    return questions, method


def _tokens(questions: Sequence[Sampled], n: int) -> float:
    return fmean(tokens_at(one, n) for one in questions)


def _cut(run: Recorded, questions: Sequence[Sampled], method: Method, other: Recorded, tokens: float) -> Cut:
    """Between two whole numbers of candidates either is drawn, so often that the tokens are met on average."""
    most = max(len(one.candidates) for one in questions)
    few = max(n for n in range(1, most) if _tokens(questions, n) <= tokens)
    less, more = _tokens(questions, few), _tokens(questions, few + 1)
    candidates = min(few + (tokens - less) / (more - less), most)
    fewer, further = curve(questions, [few, few + 1], [method])
    part = candidates - few
    shares = [(1 - part) * a + part * b for a, b in zip(fewer.shares, further.shares, strict=True)]
    right = [float(verdict) for verdict in verdicts(other.questions)]
    differences = [share - verdict for share, verdict in zip(shares, right, strict=True)]
    accuracies = mean_wilson(shares), mean_wilson(right)
    return Cut(run.name, other.name, tokens, candidates, *accuracies, mean_difference(differences))
