"""The accuracy of choosing among N of a question's candidates, in expectation over all subsets of that size.

pass@N, best-of-N and the accuracy of a single candidate have closed forms. Votes are counted in every subset if there
are at most `MAX_ENUMERATED` subsets, otherwise in `DRAWN` random ones. Ties are never broken by position: each of the
tied choices counts with the same weight.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import combinations, groupby
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from atomthink_plugin.answers import group
from atomthink_plugin.api import Aggregate, AtomThinkError

MAX_ENUMERATED: Final = 20_000
"""The largest number of subsets that are enumerated for a vote."""

DRAWN: Final = 2_000
"""How many random subsets stand for a larger number of them."""

_DIGITS: Final = 12
"""Values that agree in this many digits are tied: rounding errors are no preference."""

_SLACK: Final = 1e-9

Selection = Literal["single", "majority", "weighted", "best_of_n", "pass"]

Masks = NDArray[np.float64]
"""Subsets of candidates as rows of 0 and 1, of shape (subsets, candidates)."""


class ScoredBy(NamedTuple):
    """The value of a candidate: a process reward model, and the aggregate of its step scores."""

    prm: str
    aggregate: Aggregate


@dataclass(frozen=True, slots=True)
class SelectionRule:
    """A way of choosing one of N candidates.

    Attributes:
        kind: `single`: a random one. `majority`: the most frequent answer. `weighted`: the answer whose candidates
            have the largest sum of values. `best_of_n`: the candidate with the highest value. `pass`: a right one if
            there is any (pass@N).
        by: The values of `weighted` and `best_of_n`.
    """

    kind: Selection
    by: ScoredBy | None = None


@dataclass(frozen=True)
class CandidatePool:
    """The candidates of one question in the order in which they were sampled.

    Attributes:
        question: A name for messages.
        answers: Their final answers; None for a candidate without one, which does not vote.
        correct: Whether they are right.
        values: Their values by model and aggregate; None for a candidate that was not scored. It ranks below all
            others and has no weight in a vote.
    """

    question: str
    answers: tuple[str | None, ...]
    correct: tuple[bool, ...]
    values: Mapping[ScoredBy, tuple[float | None, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.correct)

    @cached_property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """The candidates of each group of equivalent answers, without those that have no answer."""
        voters = [i for i, answer in enumerate(self.answers) if answer is not None]
        return tuple(tuple(voters[i] for i in own) for own in group([self.answers[i] or "" for i in voters]))


@dataclass(frozen=True, slots=True)
class ExpectedAccuracy:
    """The accuracy of a rule on one question.

    Attributes:
        value: The expected accuracy with N random candidates.
        first: The same with the first N candidates.
        variance: The variance of `value` from drawing subsets, 0 if it is exact.
    """

    value: float
    first: float
    variance: float = 0.0


def expected_accuracy(pool: CandidatePool, rule: SelectionRule, n: int) -> ExpectedAccuracy:
    """Returns the accuracy of a rule that chooses among `n` candidates of a question.

    Args:
        pool: The candidates, at least `n`.
        rule: The rule.
        n: How many of them are at hand, at least 1.

    Raises:
        AtomThinkError: The rule is right more often than pass@N, so the data contradicts itself.
    """
    if rule.kind in ("majority", "weighted"):
        return _expected_vote(pool, rule, n)
    values = [_closed_form(pool, rule, among, n) for among in (range(len(pool)), range(n))]
    for value, among in zip(values, (pool.correct, pool.correct[:n]), strict=True):
        _check_ceiling(pool, rule, n, value, pass_at(n, sum(among), len(among)))
    return ExpectedAccuracy(*values)


def pass_at(n: int, right: int, total: int) -> float:
    """Returns the chance that at least one of `n` of `total` candidates is among the `right` ones."""
    return 1 - math.comb(total - right, n) / math.comb(total, n)


def _closed_form(pool: CandidatePool, rule: SelectionRule, among: Sequence[int], n: int) -> float:
    right = sum(pool.correct[i] for i in among)
    if rule.kind == "single":
        return right / len(among)
    if rule.kind == "pass":
        return pass_at(n, right, len(among))
    assert rule.by is not None
    return _best_of(pool, pool.values[rule.by], among, n)


def _best_of(pool: CandidatePool, values: Sequence[float | None], among: Sequence[int], n: int) -> float:
    """Returns the expected accuracy of the candidate with the highest value.

    Candidates with one value are a block. A subset's best candidates are in a block with the chance that the block and
    those below it hold the subset, but those below it do not. Each member of the block is then equally likely.
    """
    ranked = sorted(among, key=lambda i: _rank(values[i]))
    subsets, below, expected = math.comb(len(among), n), 0, 0.0
    for _, members in groupby(ranked, key=lambda i: _rank(values[i])):
        block = list(members)
        chance = (math.comb(below + len(block), n) - math.comb(below, n)) / subsets
        expected += chance * sum(pool.correct[i] for i in block) / len(block)
        below += len(block)
    return expected


def _rank(value: float | None) -> tuple[bool, float]:
    return value is not None, 0.0 if value is None else float(f"{value:.{_DIGITS}g}")


def _expected_vote(pool: CandidatePool, rule: SelectionRule, n: int) -> ExpectedAccuracy:
    weights = np.array([_weight(pool, rule, i) for i in range(len(pool))])
    right = np.array(pool.correct, dtype=np.float64)
    shares = []
    for masks in (_masks(len(pool), n, pool.question), (np.arange(len(pool)) < n).astype(np.float64)[None, :]):
        shares.append(_vote(pool, weights, masks))
        # The ceiling is that of the same subsets: a mean over random ones may be above pass@N.
        _check_ceiling(pool, rule, n, float(shares[-1].mean()), float((masks @ right > 0).mean()))
    drawn, first = shares
    exact = math.comb(len(pool), n) <= MAX_ENUMERATED
    return ExpectedAccuracy(float(drawn.mean()), float(first[0]), 0.0 if exact else float(drawn.var(ddof=1)) / DRAWN)


def _weight(pool: CandidatePool, rule: SelectionRule, i: int) -> float:
    """Returns the weight of a vote as a whole number, so that sums have no rounding errors and ties are exact."""
    if rule.by is None:
        return 1.0
    value = pool.values[rule.by][i]
    return 0.0 if value is None else float(round(value * 10**_DIGITS))


def _vote(pool: CandidatePool, weights: NDArray[np.float64], masks: Masks) -> NDArray[np.float64]:
    """Returns, for each subset, the share of right candidates in the group with the largest weight; 0 if none votes.

    Groups with the same weight count equally.
    """
    members = np.zeros((len(pool), len(pool.groups)))
    for number, own in enumerate(pool.groups):
        members[list(own), number] = 1.0
    counts = masks @ members
    totals = np.where(counts > 0, masks @ (members * weights[:, None]), -np.inf)
    tied = (totals == totals.max(axis=1, keepdims=True, initial=-np.inf)) & (counts > 0)
    right = masks @ (members * np.array(pool.correct, dtype=np.float64)[:, None])
    shares = np.divide(right, counts, out=np.zeros_like(right), where=counts > 0)
    found: NDArray[np.float64] = (tied * shares).sum(axis=1) / np.maximum(tied.sum(axis=1), 1)
    return found


def _masks(total: int, n: int, seed: str) -> Masks:
    """Returns all subsets of a size, or `DRAWN` random ones, which depend on nothing but the arguments."""
    if math.comb(total, n) <= MAX_ENUMERATED:
        return _all_masks(total, n)
    digest = hashlib.blake2b(f"{total}/{n}/{seed}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    chance = np.random.default_rng(int.from_bytes(digest, "big"))
    drawn = np.argsort(chance.random((DRAWN, total)), axis=1)[:, :n]
    masks = np.zeros((DRAWN, total))
    np.put_along_axis(masks, drawn, 1.0, axis=1)
    return masks


@lru_cache(maxsize=32)
def _all_masks(total: int, n: int) -> Masks:
    subsets = np.array(list(combinations(range(total), n)), dtype=np.intp).reshape(-1, n)
    masks = np.zeros((len(subsets), total))
    np.put_along_axis(masks, subsets, 1.0, axis=1)
    return masks


def _check_ceiling(pool: CandidatePool, rule: SelectionRule, n: int, value: float, ceiling: float) -> None:
    """Raises if a rule is right more often than a choice that is right wherever any candidate is."""
    if not value <= ceiling + _SLACK:
        name = f"{rule.kind} by {rule.by.prm} ({rule.by.aggregate})" if rule.by is not None else rule.kind
        raise AtomThinkError(
            f"question {pool.question!r}: {name} is right for a share of {value:.4g} of the subsets of {n} candidates, "
            f"and pass@N for {ceiling:.4g}. No choice can be right where no candidate is: the data contradicts itself"
        )
