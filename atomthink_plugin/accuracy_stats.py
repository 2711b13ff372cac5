"""Intervals and tests for accuracies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from statistics import fmean, pvariance
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

_Z: Final = 1.959963984540054
"""What a normal variable stays within, plus or minus, 95 % of the time."""

_RESAMPLES: Final = 2000

_ROUNDING: Final = 1e-12
"""A variance that is zero up to rounding."""

Estimate = tuple[float, float, float]
"""A value with the two ends of its 95 % interval."""


def wilson(right: int, total: int) -> tuple[float, float]:
    """Returns the Wilson 95 % interval of a proportion, in [0, 1]; (0, 1) without any observation."""
    if total == 0:
        return 0.0, 1.0
    interval = binomtest(right, total).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def mean_wilson(shares: Sequence[float]) -> Estimate:
    """Returns the mean of shares in [0, 1], one per question, with its Wilson 95 % interval.

    The interval is that of as many yes-or-no questions as would give the mean the variance it has, as for survey
    samples (Korn and Graubard 1998). Where all shares are 0 or 1 it is `wilson`, and for as many questions as there
    are where all shares are the same.
    """
    if not shares:
        return 0.0, 0.0, 1.0
    mean, total = fmean(shares), len(shares)
    spread = pvariance(shares, mean)
    n = total * mean * (1 - mean) / spread if spread > _ROUNDING else total
    centre = (mean + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    reach = _Z / (1 + _Z**2 / n) * math.sqrt(mean * (1 - mean) / n + (_Z / (2 * n)) ** 2)
    return mean, max(centre - reach, 0.0), min(centre + reach, 1.0)


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> float:
    """Returns the exact two-sided McNemar p-value of two methods' verdicts on the same questions.

    Under the null hypothesis each question that only one of them gets right is a fair coin.
    """
    won = sum(a and not b for a, b in zip(first, second, strict=True))
    lost = sum(b and not a for a, b in zip(first, second, strict=True))
    return float(binomtest(won, won + lost).pvalue) if won + lost else 1.0


def paired_difference(first: Sequence[bool], second: Sequence[bool]) -> Estimate:
    """Returns by how much the second method's accuracy is above the first's on the same questions.

    With the 95 % interval of Bonett and Price (2012), which holds for few questions, too.
    """
    return mean_difference([float(b) - float(a) for a, b in zip(first, second, strict=True)])


def mean_difference(differences: Sequence[float]) -> Estimate:
    """Returns the mean of paired differences in [-1, 1] with its 95 % interval.

    The interval is that of the normal distribution with two more questions, one in favour of either side: where all
    differences are -1, 0 or 1 it is Bonett and Price's, and never without width.
    """
    if not differences:
        return 0.0, -1.0, 1.0
    more = [*differences, 1.0, -1.0]
    centre = fmean(more)
    reach = _Z * math.sqrt(pvariance(more, centre) / len(more))
    return fmean(differences), max(centre - reach, -1.0), min(centre + reach, 1.0)


def holm(values: Sequence[float]) -> list[float]:
    """Returns p-values corrected for their number (Holm 1979), in the order they came."""
    corrected = [1.0] * len(values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(values)), key=lambda i: values[i])):
        largest = max(largest, min(values[index] * (len(values) - rank), 1.0))
        corrected[index] = largest
    return corrected


def bootstrap_difference(differences: Sequence[float], seed: int = 0) -> Estimate:
    """Returns the mean of paired differences, one per question, with the middle 95 % of its bootstrap resamples.

    With the same seed, the resamples of lists of one length consist of the same questions.
    """
    if not differences:
        return 0.0, -1.0, 1.0
    resampled = _resamples(len(differences), seed) @ np.array(differences)
    low, high = np.quantile(resampled / len(differences), (0.025, 0.975))
    return fmean(differences), float(low), float(high)


@lru_cache(maxsize=1)
def _resamples(count: int, seed: int) -> NDArray[np.float64]:
    """Returns how often each question is in each resample."""
    return np.random.default_rng(seed).multinomial(count, [1 / count] * count, _RESAMPLES).astype(np.float64)
