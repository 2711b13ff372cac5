"""Test-time scaling from one run: its accuracy and cost with fewer candidates."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from atomthink_plugin.accuracy_stats import mean_wilson
from atomthink_plugin.report.candidates import Candidate, Sampled
from atomthink_plugin.report.replay import Method, Replay, methods, subsets


@dataclass(frozen=True, slots=True)
class Point:
    """One method with one number of candidates.

    Attributes:
        method: How it chooses.
        n: Candidates per question.
        shares: Of each question, how often it is right over subsets of that size.
        spent: Of each question, its policy tokens, on average over the same.
        prm_calls: Steps scored per question.
        seconds: Estimated wall-clock seconds per question; of a run without a pace, the estimated latency.
    """

    method: Method
    n: int
    shares: tuple[float, ...]
    spent: tuple[float, ...]
    prm_calls: float
    seconds: float

    @property
    def tokens(self) -> float:
        """Policy tokens per question."""
        return fmean(self.spent)

    @property
    def accuracy(self) -> tuple[float, float, float]:
        """The mean over questions with its 95 % interval."""
        return mean_wilson(self.shares)


def common_methods(questions: Sequence[Sampled]) -> list[Method]:
    """Returns the methods that the scores of every question with a choice allow."""
    asked = [methods(one.candidates) for one in questions if one.candidates]
    return [method for method in asked[0] if all(method in known for known in asked)]


def sizes(questions: Sequence[Sampled]) -> list[int]:
    """Returns 1, 2, 4, ... and the number of candidates that a question has at most."""
    most = max(len(one.candidates) for one in questions)
    powers = [2**k for k in range(most.bit_length()) if 2**k < most]
    return [*powers, most]


def curve(
    questions: Sequence[Sampled], at: Sequence[int], of: Sequence[Method], pace: float | None = None
) -> list[Point]:
    """Returns a point for each method and size.

    A question with fewer candidates than a size, such as one that is answered directly, keeps all of them; one that
    failed spends what it spent. Tokens are exact means over subsets. Seconds are estimated: those of the run, the
    policy's in proportion to its tokens, the rest to the steps that were scored.

    Args:
        questions: All questions of a run.
        at: Numbers of candidates.
        of: Methods.
        pace: Seconds that the run took per question; without it they are those from a question's first call to its
            outcome, with others in flight.
    """
    shares = [_shares(one, at, of) for one in questions]
    own = fmean(one.policy_seconds + one.choosing_seconds for one in questions)
    scale = pace / own if pace is not None and own else 1.0
    return [
        Point(
            method=method,
            n=n,
            shares=tuple(table[method, n] for table in shares),
            spent=tuple(tokens_at(one, n) for one in questions),
            prm_calls=fmean(_scored(one, n, method) for one in questions),
            seconds=scale * fmean(_seconds(one, n, method) for one in questions),
        )
        for n in at
        for method in of
    ]


def tokens_at(one: Sampled, n: int) -> float:
    """Returns the policy tokens of a question with `n` candidates, on average over subsets."""
    return _part(one, n) * one.tokens


def halves(one: Sampled) -> tuple[Sampled, Sampled]:
    """Returns a question with the first half of its candidates, and with the others; both have the only one.

    Their seconds are those of the whole: only right answers and tokens are of interest.
    """
    middle = len(one.candidates) // 2
    return _some(one, one.candidates[: max(middle, 1)]), _some(one, one.candidates[middle:])


def _some(one: Sampled, candidates: Sequence[Candidate]) -> Sampled:
    part = len(candidates) / len(one.candidates) if one.candidates else 1.0
    passes = Counter(node for candidate in candidates for node in candidate.nodes if node in one.scored)
    return replace(one, candidates=candidates, tokens=part * one.tokens, scored=passes)


def _shares(one: Sampled, at: Sequence[int], of: Sequence[Method]) -> dict[tuple[Method, int], float]:
    """How often each method is right over subsets of each size; a failed question never is."""
    total = len(one.candidates)
    if not total:
        return {(method, n): 0.0 for method in of for n in at}
    replay = Replay(one.candidates)
    drawn = {n: subsets(total, min(n, total), str(one.question.id)) for n in at}
    return {(method, n): replay.accuracy(method, drawn[n]) for method in of for n in at}


def _part(one: Sampled, n: int) -> float:
    total = len(one.candidates)
    return min(n, total) / total if total else 1.0


def _scored(one: Sampled, n: int, method: Method) -> float:
    """How many distinct scored nodes a subset has, on average."""
    total = len(one.candidates)
    if not method.scored or not total:
        return 0.0
    size = min(n, total)
    all_subsets = math.comb(total, size)
    return sum(1 - math.comb(total - passes, size) / all_subsets for passes in _counted(one, method).values())


def _counted(one: Sampled, method: Method) -> Mapping[str, int]:
    """The nodes that a method has scored: all, or for `last` those where a candidate ends."""
    if method.aggregate != "last":
        return one.scored
    ends: dict[str, int] = {}
    for candidate in one.candidates:
        if candidate.nodes and candidate.nodes[-1] in one.scored:
            ends[candidate.nodes[-1]] = ends.get(candidate.nodes[-1], 0) + 1
    return ends


def _seconds(one: Sampled, n: int, method: Method) -> float:
    scored = _scored(one, n, method) / len(one.scored) if one.scored else 1.0
    return _part(one, n) * one.policy_seconds + scored * one.choosing_seconds
