"""The accuracy of choosing among N candidates, over all questions and for several N."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from atomthink_plugin.accuracy_stats import Estimate, bootstrap_difference, mean_wilson
from atomthink_plugin.api import Aggregate, AtomThinkError
from atomthink_plugin.rollouts.candidate_scores import CandidateScores
from atomthink_plugin.rollouts.selection import (
    CandidatePool,
    ExpectedAccuracy,
    ScoredBy,
    SelectionRule,
    expected_accuracies,
)
from atomthink_plugin.runtime.progress import RunProgress
from atomthink_plugin.searches.parts.aggregates import AGGREGATES

SINGLE, MAJORITY, PASS = SelectionRule("single"), SelectionRule("majority"), SelectionRule("pass")

_PROBABILITIES_ONLY: tuple[Aggregate, ...] = ("prod", "log_odds")
"""Aggregates that have no meaning for scores outside [0, 1]."""


@dataclass(frozen=True, slots=True)
class SelectionPoint:
    """One rule with one number of candidates.

    Attributes:
        rule: The rule.
        n: Candidates per question.
        questions: How many questions have that many.
        accuracy: The expected accuracy with N random candidates, with its 95 % interval.
        first: The accuracy with the first N candidates.
        gain: By how much `accuracy` is above that of the majority, with the 95 % interval of a paired bootstrap over
            questions; None for the majority itself.
        sampling_error: The standard error of `accuracy` from drawing subsets, 0 if it is exact.
    """

    rule: SelectionRule
    n: int
    questions: int
    accuracy: Estimate
    first: float
    gain: Estimate | None
    sampling_error: float


def candidate_values(
    scores: CandidateScores, aggregates: Sequence[Aggregate]
) -> list[Mapping[ScoredBy, tuple[float | None, ...]]]:
    """Returns the values of the candidates of each question by one PRM and each aggregate.

    Raises:
        AtomThinkError: An aggregate does not go with the scores.
    """
    known = [score for own in scores.scores for found in own if not isinstance(found, str) for score in found]
    if not all(0 <= score <= 1 for score in known) and (bad := [a for a in aggregates if a in _PROBABILITIES_ONLY]):
        raise AtomThinkError(
            f"`--aggregate {bad[0]}`: the scores of {scores.prm} are in [{min(known):g}, {max(known):g}], and this "
            "aggregate needs scores in [0, 1]. Use mean, min or last"
        )
    return [
        {
            ScoredBy(scores.prm, aggregate): tuple(
                None if isinstance(found, str) else AGGREGATES[aggregate](found) for found in own
            )
            for aggregate in aggregates
        }
        for own in scores.scores
    ]


def selection_rules(pools: Sequence[CandidatePool]) -> list[SelectionRule]:
    """Returns the rules that the values of the candidates allow. Only values that are not negative can be weights."""
    values = list(dict.fromkeys(by for pool in pools for by in pool.values))
    weights = [by for by in values if all((value or 0.0) >= 0 for pool in pools for value in pool.values.get(by, ()))]
    weighted = [SelectionRule("weighted", by) for by in weights]
    return [SINGLE, MAJORITY, *weighted, *(SelectionRule("best_of_n", by) for by in values), PASS]


def selection_curve(pools: Sequence[CandidatePool], at: Sequence[int]) -> list[SelectionPoint]:
    """Returns a point for each number of candidates and each rule. Questions with fewer candidates are left out.

    Args:
        pools: The questions.
        at: The numbers of candidates. Those that no question has are left out.

    Raises:
        AtomThinkError: The data of a question contradicts itself, see `expected_accuracies`.
    """
    rules = selection_rules(pools)
    work = {n: [pool for pool in pools if len(pool) >= n] for n in at}
    points = []
    with RunProgress(sum(map(len, work.values())), "choose among candidates", unit="choices", rate_of=None) as progress:
        for n, enough in work.items():
            found: dict[SelectionRule, list[ExpectedAccuracy]] = {rule: [] for rule in rules}
            for pool in enough:
                for rule, accuracy in expected_accuracies(pool, rules, n).items():
                    found[rule].append(accuracy)
                progress.advance()
            points += [_point(rule, n, own, found[MAJORITY]) for rule, own in found.items() if own]
    return points


def _point(
    rule: SelectionRule, n: int, found: Sequence[ExpectedAccuracy], majority: Sequence[ExpectedAccuracy]
) -> SelectionPoint:
    differences = [one.value - other.value for one, other in zip(found, majority, strict=True)]
    return SelectionPoint(
        rule=rule,
        n=n,
        questions=len(found),
        accuracy=mean_wilson([one.value for one in found]),
        first=fmean(one.first for one in found),
        gain=None if rule == MAJORITY else bootstrap_difference(differences),
        sampling_error=math.sqrt(sum(one.variance for one in found)) / len(found),
    )
