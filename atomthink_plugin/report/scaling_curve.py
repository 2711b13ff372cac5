"""Test-time scaling curves from one run: its accuracy and cost with fewer candidates."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from atomthink_plugin.accuracy_stats import mean_wilson
from atomthink_plugin.report.candidates import Candidate, SampledQuestion
from atomthink_plugin.report.replay import Replay, SelectionMethod, methods, subsets


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One selection method with one number of candidates.

    Attributes:
        method: The method.
        n: Candidates per question.
        shares: For each question, the share of subsets of this size with a right choice.
        spent: For each question, the mean sampled tokens of these subsets, see `tokens_at`.
        prm_calls: Scored steps per question.
        seconds: Estimated wall-clock seconds per question, or the estimated latency for runs without a pace.
    """

    method: SelectionMethod
    n: int
    shares: tuple[float, ...]
    spent: tuple[float, ...]
    prm_calls: float
    seconds: float

    @property
    def tokens(self) -> float:
        """Sampled tokens per question."""
        return fmean(self.spent)

    @property
    def accuracy(self) -> tuple[float, float, float]:
        """The mean over questions with its 95 % interval."""
        return mean_wilson(self.shares)


def common_methods(questions: Sequence[SampledQuestion]) -> list[SelectionMethod]:
    """Returns the methods that the scores of all questions allow."""
    asked = [methods(one.candidates) for one in questions if one.candidates]
    return [method for method in asked[0] if all(method in known for known in asked)]


def sizes(questions: Sequence[SampledQuestion]) -> list[int]:
    """Returns 1, 2, 4, ... and the largest number of candidates of a question."""
    return sizes_up_to(max(len(one.candidates) for one in questions))


def sizes_up_to(most: int) -> list[int]:
    """Returns 1, 2, 4, ... and the largest number itself."""
    powers = [2**k for k in range(most.bit_length()) if 2**k < most]
    return [*powers, most]


def curve(
    questions: Sequence[SampledQuestion], at: Sequence[int], of: Sequence[SelectionMethod], pace: float | None = None
) -> list[CurvePoint]:
    """Returns a point for each method and size.

    A question with fewer candidates than a size, one that is answered directly for example, uses all of them. A failed
    question has its whole cost at each size. Tokens are exact means over subsets. Seconds are estimated from the run:
    those of the policy in proportion to its tokens, the others in proportion to the scored steps.

    Args:
        questions: All questions of a run.
        at: The numbers of candidates.
        of: The methods.
        pace: Wall-clock seconds of the run per question. Without it, seconds are latencies.
    """
    shares = [_shares(one, at, of) for one in questions]
    own = fmean(one.policy_seconds + one.choosing_seconds for one in questions)
    scale = pace / own if pace is not None and own else 1.0
    return [
        CurvePoint(
            method=method,
            n=n,
            shares=tuple(table[method, n] for table in shares),
            spent=tuple(tokens_at(one, n, method) for one in questions),
            prm_calls=fmean(_scored(one, n, method) for one in questions),
            seconds=scale * fmean(_seconds(one, n, method) for one in questions),
        )
        for n in at
        for method in of
    ]


def tokens_at(one: SampledQuestion, n: int, method: SelectionMethod) -> float:
    """Returns the mean sampled tokens of a question over subsets of `n` candidates.

    They are those of the policy and, for methods that use scores, those of a generative scorer in proportion to the
    scored steps.
    """
    return _part(one, n) * one.tokens + _scored_share(one, n, method) * one.judged


def halves(one: SampledQuestion) -> tuple[SampledQuestion, SampledQuestion]:
    """Returns a question with the first half of its candidates, and with the other half.

    A single candidate is in both halves. Seconds are not divided, because only answers and tokens are used.
    """
    middle = len(one.candidates) // 2
    return _some(one, one.candidates[: max(middle, 1)]), _some(one, one.candidates[middle:])


def _some(one: SampledQuestion, candidates: Sequence[Candidate]) -> SampledQuestion:
    part = len(candidates) / len(one.candidates) if one.candidates else 1.0
    passes = Counter(node for candidate in candidates for node in candidate.nodes if node in one.scored)
    judged = one.judged * len(passes) / len(one.scored) if one.scored else 0.0
    return replace(one, candidates=candidates, tokens=part * one.tokens, scored=passes, judged=judged)


def _shares(
    one: SampledQuestion, at: Sequence[int], of: Sequence[SelectionMethod]
) -> dict[tuple[SelectionMethod, int], float]:
    """Returns the share of subsets of each size with a right choice, 0 for a failed question."""
    total = len(one.candidates)
    if not total:
        return {(method, n): 0.0 for method in of for n in at}
    replay = Replay(one.candidates)
    drawn = {n: subsets(total, min(n, total), str(one.question.id)) for n in at}
    return {(method, n): replay.accuracy(method, drawn[n]) for method in of for n in at}


def _part(one: SampledQuestion, n: int) -> float:
    total = len(one.candidates)
    return min(n, total) / total if total else 1.0


def _scored(one: SampledQuestion, n: int, method: SelectionMethod) -> float:
    """Returns the mean number of distinct scored nodes in a subset."""
    total = len(one.candidates)
    if not method.scored or not total:
        return 0.0
    size = min(n, total)
    all_subsets = math.comb(total, size)
    return sum(1 - math.comb(total - passes, size) / all_subsets for passes in _counted(one, method).values())


def _counted(one: SampledQuestion, method: SelectionMethod) -> Mapping[str, int]:
    """Returns the nodes that a method needs scored: all, or for `last` the last nodes of candidates."""
    if method.aggregate != "last":
        return one.scored
    ends: dict[str, int] = {}
    for candidate in one.candidates:
        if candidate.nodes and candidate.nodes[-1] in one.scored:
            ends[candidate.nodes[-1]] = ends.get(candidate.nodes[-1], 0) + 1
    return ends


def _seconds(one: SampledQuestion, n: int, method: SelectionMethod) -> float:
    share = _scored_share(one, n, method) if one.scored else 1.0
    return _part(one, n) * one.policy_seconds + share * one.choosing_seconds


def _scored_share(one: SampledQuestion, n: int, method: SelectionMethod) -> float:
    """Returns the share of the run's scored nodes that a method needs with `n` candidates."""
    return _scored(one, n, method) / len(one.scored) if one.scored else 0.0
