"""95 % intervals of metrics: a bootstrap over questions, because solutions of one question depend on each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

RESAMPLES: Final = 1000

Floats = NDArray[np.float64]
Draws = NDArray[np.float64]
"""A metric of all solutions, followed by the same metric of every resample; NaN where it is undefined."""


@dataclass(frozen=True, slots=True)
class MetricValue:
    """A metric with its 95 % interval, and of how many steps, solutions or questions it is computed.

    The value is None where it is undefined, and the interval also for fewer than two questions.
    """

    value: float | None
    low: float | None
    high: float | None
    count: int


Values = Mapping[str, MetricValue]
"""Metrics by name."""


class Bootstrap:
    """Resamples of questions, the same for all metrics of a report.

    Args:
        questions: The question of each solution. The order of the solutions does not change the resamples.
        seed: Seed of the resamples.
        resamples: How many there are, by default `RESAMPLES`; without any, metrics have no intervals.
    """

    def __init__(self, questions: Sequence[str], seed: int = 0, resamples: int | None = None) -> None:
        index = {question: number for number, question in enumerate(sorted(set(questions)))}
        self._question_of = np.array([index[question] for question in questions], dtype=np.int64)
        count = len(index)
        rng = np.random.default_rng(seed)
        drawn = (RESAMPLES if resamples is None else resamples) if count > 1 else 0
        self._weights = rng.multinomial(count, [1 / count] * count, drawn).astype(np.float64)

    def sums(self, rows: Floats) -> Floats:
        """Returns the sums of `rows`, one row per solution, over all of them and over those of each resample."""
        totals = np.zeros((self._weights.shape[1], rows.shape[1]))
        np.add.at(totals, self._question_of, rows)
        return np.concatenate([totals.sum(axis=0, keepdims=True), self._weights @ totals])

    def weights(self) -> Iterator[Floats]:
        """Yields how often each solution counts: once, then as often as each resample has it."""
        yield np.ones(len(self._question_of))
        yield from (weights[self._question_of] for weights in self._weights)


def metric_value(draws: Draws, count: int) -> MetricValue:
    """Returns a metric with the middle 95 % of its resamples; undefined resamples are left out."""
    value, resampled = float(draws[0]), draws[1:][~np.isnan(draws[1:])]
    if np.isnan(value):
        return MetricValue(None, None, None, count)
    low, high = map(float, np.quantile(resampled, (0.025, 0.975))) if resampled.size else (None, None)
    return MetricValue(value, low, high, count)


def ratio(top: Floats, bottom: Floats) -> Floats:
    """Returns `top / bottom`, NaN where `bottom` is 0."""
    quotient: Floats = np.divide(top, bottom, out=np.full(np.shape(top), np.nan), where=bottom > 0)
    return quotient
