"""Ratios of sums over chains, and how sure they are: bootstrap over questions.

Chains of one question stand or fall together, so questions are drawn; where every chain has a question of its own,
that is the bootstrap over chains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

RESAMPLES: Final = 1000

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]
"""From sums `[..., columns]` to values `[...]`, NaN where they say nothing."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95 % interval.

    Attributes:
        value: None where nothing is there to be measured.
        low: Lower end; None as well where fewer than two questions are there.
        high: Upper end.
        count: Chains, steps or questions it is from, as the measure says.
    """

    value: float | None
    low: float | None
    high: float | None
    count: int


class Bootstrap:
    """Draws of questions, the same for all measures of a run.

    Args:
        questions: Each chain's question; their order changes no draw.
        seed: Of the draws.
    """

    def __init__(self, questions: Sequence[str], seed: int = 0) -> None:
        place = {question: index for index, question in enumerate(sorted(set(questions)))}
        self._question_of = np.array([place[question] for question in questions], dtype=np.int64)
        self._questions = count = len(place)
        draws = np.random.default_rng(seed)
        self._weights = draws.multinomial(count, [1 / count] * count, RESAMPLES if count > 1 else 0).astype(np.float64)

    def estimate(self, sums: Floats, statistic: Statistic, count: int) -> Estimate:
        """Returns a statistic of the sums over all chains.

        Args:
            sums: What each chain adds, `[chains, columns]`.
            statistic: What the totals mean.
            count: How much it is from.
        """
        totals = np.zeros((self._questions, sums.shape[1]))
        np.add.at(totals, self._question_of, sums)
        value = statistic(totals.sum(axis=0))
        return interval(float(value), statistic(self._weights @ totals), count)

    def weights(self) -> Iterator[Floats]:
        """Yields, for each resample, how often each chain is in it, `[chains]`."""
        for weights in self._weights:
            yield weights[self._question_of]


def interval(value: float, draws: Floats, count: int) -> Estimate:
    """Returns a value with the middle 95 % of its draws; draws that say nothing are left out."""
    if np.isnan(value):
        return Estimate(None, None, None, count)
    told = draws[~np.isnan(draws)]
    low, high = np.quantile(told, (0.025, 0.975)) if told.size else (None, None)
    return Estimate(value, None if low is None else float(low), None if high is None else float(high), count)


def share(top: Floats, bottom: Floats) -> Floats:
    """Returns `top / bottom`, NaN where `bottom` is 0."""
    top, bottom = np.broadcast_arrays(np.asarray(top, dtype=np.float64), np.asarray(bottom, dtype=np.float64))
    shares = np.full(top.shape, np.nan)
    np.divide(top, bottom, out=shares, where=bottom > 0)
    return shares


def harmonic(first: Floats, second: Floats) -> Floats:
    """Returns the harmonic mean, 0 where both are 0, NaN where one is."""
    both = first + second
    return np.where(both == 0, 0.0, share(2 * first * second, both))
