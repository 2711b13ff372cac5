"""Is a score a probability? Expected calibration error in ten bins of equal width, Brier score, reliability table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from atomthink_plugin.training.evaluate.measures.resampling import Bootstrap, Estimate, Floats, share
from atomthink_plugin.training.evaluate.scored import Scored

BINS: Final = 10


@dataclass(frozen=True, slots=True)
class Bin:
    """One line of the reliability table.

    Attributes:
        low: Lower end of its scores; the upper end belongs to the next bin, but for the last.
        high: Upper end.
        score: Mean score of its steps; None if it is empty.
        right: Share of its steps that are right, which it counts.
    """

    low: float
    high: float
    score: float | None
    right: Estimate


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far scores are from probabilities; counts are steps.

    Attributes:
        error: Expected calibration error: the mean over steps of their bin's |mean score - share right|.
        brier: Mean squared difference of score and label.
        bins: The reliability table.
    """

    error: Estimate
    brier: Estimate
    bins: tuple[Bin, ...]


def calibration(chains: Sequence[Scored], bootstrap: Bootstrap) -> Calibration:
    """Returns the measures over the chains' labelled steps; the bootstrap is of the same chains."""
    table = np.zeros((len(chains), 3, BINS))  # steps, their scores, the right ones
    squares = np.zeros((len(chains), 2))
    for row, square, chain in zip(table, squares, chains, strict=True):
        for score, label in chain.judged():
            row[:, min(int(score * BINS), BINS - 1)] += 1, score, label
            square += (score - label) ** 2, 1
    count = int(squares[:, 1].sum())
    return Calibration(
        error=bootstrap.estimate(table.reshape(len(chains), -1), _error, count),
        brier=bootstrap.estimate(squares, lambda sums: share(sums[..., 0], sums[..., 1]), count),
        bins=tuple(_bin(table[:, :, index], index, bootstrap) for index in range(BINS)),
    )


def _error(sums: Floats) -> Floats:
    steps, scores, right = np.moveaxis(sums.reshape(*sums.shape[:-1], 3, BINS), -2, 0)
    return share(np.abs(scores - right).sum(axis=-1), steps.sum(axis=-1))


def _bin(table: Floats, index: int, bootstrap: Bootstrap) -> Bin:
    steps, scores, _ = table.sum(axis=0)
    return Bin(
        low=index / BINS,
        high=(index + 1) / BINS,
        score=float(scores / steps) if steps else None,
        right=bootstrap.estimate(table, lambda sums: share(sums[..., 2], sums[..., 0]), int(steps)),
    )
