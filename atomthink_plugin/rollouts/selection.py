"""The accuracy of choosing among N of a question's candidates, in expectation over all subsets of that size.

pass@N, best-of-N and the accuracy of a single candidate have closed forms. Votes are counted in every subset if there
are at most `MAX_ENUMERATED` subsets, otherwise in `DRAWN` random ones. Ties are never broken by position: each of the
tied choices counts with the same weight.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
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
"""Subsets of candidates as columns of 0 and 1, of shape (candidates, subsets)."""


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


def expected_accuracies(
    pool: CandidatePool, rules: Iterable[SelectionRule], n: int
) -> dict[SelectionRule, ExpectedAccuracy]:
    """Returns the accuracy of each rule that chooses among `n` candidates of a question.

    Args:
        pool: The candidates, at least `n`.
        rules: The rules.
        n: How many candidates are at hand, at least 1.

    Raises:
        AtomThinkError: A rule is right more often than pass@N, so the data contradicts itself.
    """
    total = len(pool)
    drawn = _Ballots(pool, _masks(total, n, pool.question))
    first = _Ballots(pool, (np.arange(total) < n).astype(np.float64)[:, None])
    found = {}
    for rule in rules:
        if rule.kind in ("majority", "weighted"):
            shares, own = (ballots.shares_of_right(pool, rule, n) for ballots in (drawn, first))
            exact = math.comb(total, n) <= MAX_ENUMERATED
            variance = 0.0 if exact else float(shares.var(ddof=1)) / DRAWN
            found[rule] = ExpectedAccuracy(float(shares.mean()), float(own[0]), variance)
        else:
            values = (_closed_form(pool, rule, among, n) for among in (range(total), range(n)))
            found[rule] = ExpectedAccuracy(*values)
    return found


def pass_at(n: int, right: int, total: int) -> float:
    """Returns the chance that at least one of `n` of `total` candidates is among the `right` ones."""
    return 1 - math.comb(total - right, n) / math.comb(total, n)


def _closed_form(pool: CandidatePool, rule: SelectionRule, among: Sequence[int], n: int) -> float:
    right = sum(pool.correct[i] for i in among)
    ceiling = pass_at(n, right, len(among))
    if rule.kind == "pass":
        return ceiling
    value = right / len(among) if rule.by is None else _best_of(pool, pool.values[rule.by], among, n)
    _check_ceiling(pool, rule, n, value, ceiling)
    return value


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


def _weight(pool: CandidatePool, rule: SelectionRule, i: int) -> float:
    """Returns the weight of a vote as a whole number, so that sums have no rounding errors and ties are exact."""
    if rule.by is None:
        return 1.0
    value = pool.values[rule.by][i]
    return 0.0 if value is None else float(round(value * 10**_DIGITS))


class _Ballots:
    """Subsets of a question's candidates, and what all votes in them share.

    Attributes:
        counts: For each group of answers and each subset, the number of candidates.
        shares: The share of right ones among them.
        any_right: Whether a subset has a right candidate.
    """

    def __init__(self, pool: CandidatePool, masks: Masks) -> None:
        self._masks = masks
        self._members = np.zeros((len(pool.groups), len(pool)))
        for number, own in enumerate(pool.groups):
            self._members[number, list(own)] = 1.0
        right = np.array(pool.correct, dtype=np.float64)
        self.counts = self._members @ masks
        self.shares = (self._members * right) @ masks / np.maximum(self.counts, 1)
        self.any_right = right @ masks > 0

    def shares_of_right(self, pool: CandidatePool, rule: SelectionRule, n: int) -> NDArray[np.float64]:
        """Returns, for each subset, the share of right candidates in the group with the largest weight.

        Groups with the same weight count equally. A subset without an answer is wrong.
        """
        weights = np.array([_weight(pool, rule, i) for i in range(len(pool))])
        totals = np.where(self.counts > 0, (self._members * weights) @ self._masks, -1.0)
        tied = totals == totals.max(axis=0, initial=0.0)
        found: NDArray[np.float64] = (tied * self.shares).sum(axis=0) / np.maximum(tied.sum(axis=0), 1)
        # The ceiling is that of the same subsets: a mean over random ones may be above pass@N.
        _check_ceiling(pool, rule, n, float(found.mean()), float(self.any_right.mean()))
        return found


def _masks(total: int, n: int, seed: str) -> Masks:
    """Returns all subsets of a size, or `DRAWN` random ones, which depend on nothing but the arguments."""
    if math.comb(total, n) <= MAX_ENUMERATED:
        return _all_masks(total, n)
    digest = hashlib.blake2b(f"{total}/{n}/{seed}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    chance = np.random.default_rng(int.from_bytes(digest, "big"))
    return _columns(np.argsort(chance.random((DRAWN, total)), axis=1)[:, :n], total)


@lru_cache(maxsize=32)
def _all_masks(total: int, n: int) -> Masks:
    return _columns(np.array(list(combinations(range(total), n)), dtype=np.intp).reshape(-1, n), total)


def _columns(subsets: NDArray[np.intp], total: int) -> Masks:
    """Returns the masks of subsets, which are given as rows of indices."""
    masks = np.zeros((len(subsets), total))
    np.put_along_axis(masks, subsets, 1.0, axis=1)
    return np.ascontiguousarray(masks.T)


def _check_ceiling(pool: CandidatePool, rule: SelectionRule, n: int, value: float, ceiling: float) -> None:
    """Raises if a rule is right more often than a choice that is right wherever any candidate is."""
    if not value <= ceiling + _SLACK:
        name = f"{rule.kind} by {rule.by.prm} ({rule.by.aggregate})" if rule.by is not None else rule.kind
        raise AtomThinkError(
            f"question {pool.question!r}: {name} is right for a share of {value:.4g} of the subsets of {n} candidates, "
            f"and pass@N for {ceiling:.4g}. No choice can be right where no candidate is: the data contradicts itself"
        )
