"""Runs at equal tokens: the number of candidates of a run is reduced to what another run's tokens pay for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from atomthink_plugin.accuracy_stats import Estimate, mean_difference, mean_wilson
from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.report.candidates import MIN_AGREEMENT, SampledQuestion, sampled_questions
from atomthink_plugin.report.paired_runs import PairedRuns, tokens_of, verdicts
from atomthink_plugin.report.replay import SelectionMethod, method_of
from atomthink_plugin.report.run_reader import RecordedRun
from atomthink_plugin.report.scaling_curve import common_methods, curve, tokens_at


@dataclass(frozen=True, slots=True)
class ReducedRun:
    """A run reduced to the tokens of another run.

    Attributes:
        run: The reduced run.
        other: The run whose tokens it may spend.
        tokens: The other run's tokens per question, including failed questions.
        candidates: How many candidates they pay for. A fraction mixes the two nearest whole numbers.
        accuracy: Accuracy with that many candidates, over random subsets, with the 95 % interval.
        other_accuracy: The other run's accuracy.
        difference: The run's accuracy minus the other's, paired, with its 95 % interval.
    """

    run: str
    other: str
    tokens: float
    candidates: float
    accuracy: Estimate
    other_accuracy: Estimate
    difference: Estimate


def equal_tokens(paired: PairedRuns) -> tuple[list[ReducedRun], list[str]]:
    """Returns every run reduced to the tokens of each cheaper run, and notes about runs that cannot be reduced."""
    cuts: list[ReducedRun] = []
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
            words.append(f"`{run.name}` cannot be reduced to fewer tokens: {error}")
            continue
        for other, tokens in cheaper:
            if tokens < _tokens(questions, 1, method):
                words.append(f"the tokens of `{other.name}` do not pay for one candidate of `{run.name}`")
            else:
                cuts.append(_cut(run, questions, method, other, tokens))
    return cuts, words


def _whole(run: RecordedRun) -> tuple[list[SampledQuestion], SelectionMethod]:
    """Returns the candidates and the selection method of a run whose questions all have judged candidates."""
    method = method_of(run.settings)
    if method is None:
        raise AtomThinkError("it does not choose one of several whole chains, or it has no journal")
    questions, judged = sampled_questions(run)
    if len(questions) < len(run.questions):
        raise AtomThinkError(f"{len(run.questions) - len(questions)} questions have no record or no reference answer")
    if max(len(one.candidates) for one in questions) < 2:
        raise AtomThinkError("each question has only one candidate")
    if method not in common_methods(questions):
        raise AtomThinkError(f"not all of its candidates have the scores for {method.name}")
    if judged.agreed < MIN_AGREEMENT * judged.of:
        raise AtomThinkError(judged.summary)
    return questions, method


def _tokens(questions: Sequence[SampledQuestion], n: int, method: SelectionMethod) -> float:
    return fmean(tokens_at(one, n, method) for one in questions)


def _cut(
    run: RecordedRun, questions: Sequence[SampledQuestion], method: SelectionMethod, other: RecordedRun, tokens: float
) -> ReducedRun:
    """Mixes two whole numbers of candidates so that the tokens are met on average."""
    most = max(len(one.candidates) for one in questions)
    few = max(n for n in range(1, most) if _tokens(questions, n, method) <= tokens)
    less, more = _tokens(questions, few, method), _tokens(questions, few + 1, method)
    candidates = min(few + (tokens - less) / (more - less), most)
    fewer, further = curve(questions, [few, few + 1], [method])
    part = candidates - few
    shares = [(1 - part) * a + part * b for a, b in zip(fewer.shares, further.shares, strict=True)]
    right = [float(verdict) for verdict in verdicts(other.questions)]
    differences = [share - verdict for share, verdict in zip(shares, right, strict=True)]
    accuracies = mean_wilson(shares), mean_wilson(right)
    return ReducedRun(run.name, other.name, tokens, candidates, *accuracies, mean_difference(differences))
