"""Runs at equal tokens: one that chose among candidates is cut to as many as another run's tokens pay for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.statistics import Estimate, mean_difference, mean_wilson
from atomthink_plugin.tasks.report.candidates import Sampled, sampled
from atomthink_plugin.tasks.report.comparing import Paired, tokens_of, verdicts
from atomthink_plugin.tasks.report.reading import Recorded
from atomthink_plugin.tasks.report.replay import Method, method_of
from atomthink_plugin.tasks.report.scaling import common_methods, curve


@dataclass(frozen=True, slots=True)
class Cut:
    """A run that spends no more than another.

    Attributes:
        run: The run that is cut.
        other: The one whose tokens it may spend.
        tokens: Those, per question.
        candidates: How many of its candidates they pay for; between two whole numbers it draws either, in proportion.
        accuracy: What it would have with them, over random subsets, with its 95 % interval.
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
    """Returns every run cut to each cheaper one's tokens, and in words what cannot be cut."""
    cuts: list[Cut] = []
    words: list[str] = []
    for run in paired.runs:
        own = tokens_of(run.questions)
        budgets = [(other, tokens_of(other.questions)) for other in paired.runs if other is not run]
        cheaper = [(other, told) for other, told in budgets if own is not None and told is not None and told < own]
        if not cheaper:
            continue
        whole = _whole(run)
        if whole is None:
            words.append(f"`{run.name}` cannot be cut to fewer tokens: it has no journaled candidates to leave out")
            continue
        questions, method = whole
        most = max(len(one.candidates) for one in questions)
        each = fmean(one.tokens for one in questions) / most
        for other, tokens in cheaper:
            if tokens < each:
                words.append(f"the tokens of `{other.name}` do not pay for one candidate of `{run.name}`")
            else:
                cuts.append(_cut(run, questions, method, other, tokens, tokens / each))
    return cuts, words


def _whole(run: Recorded) -> tuple[list[Sampled], Method] | None:
    """The candidates and how the run chose among them, if every question has them."""
    method = method_of(run.settings)
    if method is None:
        return None
    try:
        questions, _ = sampled(run)
    except AtomThinkError:
        return None
    whole = len(questions) == len(run.questions) and method in common_methods(questions)
    return (questions, method) if whole else None


def _cut(
    run: Recorded, questions: Sequence[Sampled], method: Method, other: Recorded, tokens: float, candidates: float
) -> Cut:
    """Between two whole numbers of candidates either is drawn, so often that the tokens are met on average."""
    few = math.floor(candidates)
    fewer, more = curve(questions, [few, few + 1], [method])
    part = candidates - few
    shares = [(1 - part) * a + part * b for a, b in zip(fewer.shares, more.shares, strict=True)]
    right = [float(verdict) for verdict in verdicts(other.questions)]
    differences = [share - verdict for share, verdict in zip(shares, right, strict=True)]
    accuracies = mean_wilson(shares), mean_wilson(right)
    return Cut(run.name, other.name, tokens, candidates, *accuracies, mean_difference(differences))
