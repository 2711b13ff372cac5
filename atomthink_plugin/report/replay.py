"""The choices of a search over whole paths from subsets of its candidates, for many subsets at once.

The choices equal those of `searches/`. The tests compare them subset by subset.
"""

from __future__ import annotations

import inspect
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from atomthink_plugin.answers import equivalent, group
from atomthink_plugin.api import Aggregate, Search
from atomthink_plugin.report.candidates import Candidate
from atomthink_plugin.searches.best_of_n import best_of_n
from atomthink_plugin.searches.majority import majority
from atomthink_plugin.searches.parts.aggregates import AGGREGATES
from atomthink_plugin.searches.weighted import weighted

Subsets = NDArray[np.intp]
"""Ascending indices of candidates, of shape (subsets, size)."""

_SEARCHES: Final[Mapping[str, Callable[..., Search]]] = {
    "majority": majority,
    "weighted": weighted,
    "best_of_n": best_of_n,
}

MAX_SUBSETS: Final = 500
"""The largest number of subsets of one size that are evaluated per question."""


@dataclass(frozen=True, slots=True)
class SelectionMethod:
    """A method of choosing among candidates.

    Attributes:
        search: The registered name of the search, or `pass` for pass@N: any candidate is right.
        aggregate: The aggregate of a path's step scores, None for methods without scores.
    """

    search: str
    aggregate: Aggregate | None = None

    @property
    def name(self) -> str:
        """The name in tables."""
        if self.search == "pass":
            return "pass@N"
        return f"{self.search} {self.aggregate}" if self.aggregate else self.search

    @property
    def scored(self) -> bool:
        """Whether the method needs step scores."""
        return self.aggregate is not None


PASS: Final = SelectionMethod("pass")
MAJORITY: Final = SelectionMethod("majority")


def method_of(settings: Mapping[str, Any]) -> SelectionMethod | None:
    """Returns a run's selection method, from its journal's settings. None for searches without candidates."""
    search = dict(settings.get("search", {}))
    factory = _SEARCHES.get(search.get("name", ""))
    if factory is None:
        return None
    default = inspect.signature(factory).parameters.get("aggregate")
    return SelectionMethod(search["name"], search.get("aggregate", default.default if default else None))


def methods(candidates: Sequence[Candidate]) -> list[SelectionMethod]:
    """Returns the methods that a question's scores allow, all methods for a single candidate."""
    many = len(candidates) > 1
    known: list[Aggregate] = [name for name in AGGREGATES if not many or all(name in one.values for one in candidates)]
    scored = [SelectionMethod(search, aggregate) for search in ("weighted", "best_of_n") for aggregate in known]
    return [MAJORITY, *scored, PASS]


def subsets(total: int, size: int, seed: str) -> Subsets:
    """Returns all subsets of a size, or `MAX_SUBSETS` random subsets: sorted prefixes of shuffled candidates.

    With the same seed, the random subsets of a smaller size are contained in those of a larger size.
    """
    if math.comb(total, size) <= MAX_SUBSETS:
        return np.array(list(combinations(range(total), size)), dtype=np.intp).reshape(-1, size)
    chance = random.Random(seed)
    orders = [chance.sample(range(total), total) for _ in range(MAX_SUBSETS)]
    return np.sort(np.array(orders, dtype=np.intp)[:, :size], axis=1)


class Replay:
    """Chooses from subsets of one question's candidates.

    Args:
        candidates: All candidates of the question.
    """

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self._candidates = candidates
        self._right = np.array([one.correct for one in candidates])
        self._logprobs = np.array([one.logprob for one in candidates])
        self._voters = np.array([one.answer is not None for one in candidates])
        self._groups = _partition([one.answer for one in candidates])

    def accuracy(self, method: SelectionMethod, drawn: Subsets) -> float:
        """Returns the share of subsets from which the method chooses a right candidate."""
        if method == PASS:
            return float(self._right[drawn].any(axis=1).mean())
        return float(self._right[self.chosen(method, drawn)].mean())

    def chosen(self, method: SelectionMethod, drawn: Subsets) -> NDArray[np.intp]:
        """Returns the candidate that the search would choose from each subset."""
        if len(self._candidates) == 1:
            return drawn[:, 0]
        if method.search == "best_of_n":
            return self._best(drawn, self._values(method))
        weights = np.ones(len(self._candidates)) if method.aggregate is None else self._values(method)
        return self._elected(drawn, weights)

    def _values(self, method: SelectionMethod) -> NDArray[np.float64]:
        assert method.aggregate is not None
        return np.array([one.values[method.aggregate] for one in self._candidates])

    def _best(self, drawn: Subsets, values: NDArray[np.float64]) -> NDArray[np.intp]:
        order = _ranks(lambda i: (self._candidates[i].answer is not None, values[i], self._logprobs[i]), len(values))
        return _first_highest(drawn, order[drawn])

    def _elected(self, drawn: Subsets, weights: NDArray[np.float64]) -> NDArray[np.intp]:
        chosen = np.empty(len(drawn), dtype=np.intp)
        voted = self._voters[drawn].any(axis=1)
        silent = _ranks(lambda i: (bool(self._candidates[i].nodes), self._logprobs[i]), len(weights))
        chosen[~voted] = _first_highest(drawn[~voted], silent[drawn[~voted]])
        if self._groups is not None:
            chosen[voted] = self._vote(drawn[voted], weights, self._groups)
        else:
            for row in np.flatnonzero(voted):
                own = _grouped([self._candidates[i].answer for i in drawn[row]])
                groups = np.full(len(self._candidates), -1)
                groups[drawn[row]] = own
                chosen[row] = self._vote(drawn[row : row + 1], weights, groups)[0]
        return chosen

    def _vote(self, drawn: Subsets, weights: NDArray[np.float64], groups: NDArray[np.intp]) -> NDArray[np.intp]:
        """Returns the likeliest member of the heaviest group. Ties go to the likelier group, then to the first."""
        rows, columns = np.nonzero(groups[drawn] >= 0)
        members = drawn[rows, columns]
        shape = (len(drawn), max(int(groups.max()) + 1, 1))
        cells = np.ravel_multi_index((rows, groups[members]), shape)

        def total(of: NDArray[Any]) -> NDArray[np.float64]:
            sums: NDArray[np.float64] = np.bincount(cells, of[members], math.prod(shape)).astype(np.float64)
            return sums.reshape(shape)

        count = total(np.ones(len(groups)))
        mean = np.where(count > 0, total(self._logprobs) / np.maximum(count, 1), -math.inf)
        first = np.full(math.prod(shape), len(groups))
        np.minimum.at(first, cells, members)
        weight = np.where(count > 0, total(weights), -math.inf)
        heaviest = weight == weight.max(axis=1, keepdims=True)
        likely = np.where(heaviest, mean, -math.inf)
        tied = heaviest & (likely == likely.max(axis=1, keepdims=True))
        winner = np.where(tied, first.reshape(shape), len(groups)).argmin(axis=1)
        own = _ranks(lambda i: self._logprobs[i], len(groups))
        return _first_highest(drawn, np.where(groups[drawn] == winner[:, None], own[drawn], -1))


def _ranks(key: Callable[[int], Any], count: int) -> NDArray[np.intp]:
    """Returns the rank of each index's key among the distinct keys, from 0."""
    keys = [key(i) for i in range(count)]
    rank = {value: place for place, value in enumerate(sorted(set(keys)))}
    return np.array([rank[value] for value in keys], dtype=np.intp)


def _first_highest(drawn: Subsets, rank: NDArray[np.intp]) -> NDArray[np.intp]:
    if not len(drawn):
        return np.empty(0, dtype=np.intp)
    return np.take_along_axis(drawn, rank.argmax(axis=1)[:, None], axis=1)[:, 0]


def _partition(answers: Sequence[str | None]) -> NDArray[np.intp] | None:
    """Returns the group of each answer, -1 for no answer. None if groups overlap and differ between subsets."""
    ids = _grouped(answers)
    known = sorted({(int(ids[i]), answer) for i, answer in enumerate(answers) if answer is not None})
    clean = not any(a != b and equivalent(first, second) for (a, first), (b, second) in combinations(known, 2))
    return ids if clean else None


def _grouped(answers: Sequence[str | None]) -> NDArray[np.intp]:
    voters = [i for i, answer in enumerate(answers) if answer is not None]
    ids = np.full(len(answers), -1, dtype=np.intp)
    for number, members in enumerate(group([answers[i] or "" for i in voters])):
        ids[[voters[j] for j in members]] = number
    return ids
