"""Intervals and tests for accuracies."""

from __future__ import annotations

from collections.abc import Sequence

from scipy.stats import binomtest


def wilson(right: int, total: int) -> tuple[float, float]:
    """Returns the Wilson 95 % interval of a proportion, in [0, 1]; (0, 1) without any observation."""
    if total == 0:
        return 0.0, 1.0
    interval = binomtest(right, total).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> float:
    """Returns the exact two-sided McNemar p-value of two methods' verdicts on the same questions.

    Under the null hypothesis each question that only one of them gets right is a fair coin.
    """
    won = sum(a and not b for a, b in zip(first, second, strict=True))
    lost = sum(b and not a for a, b in zip(first, second, strict=True))
    return float(binomtest(won, won + lost).pvalue) if won + lost else 1.0
