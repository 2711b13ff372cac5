"""Is each step judged rightly? VisualProcessBench's macro-F1 (arXiv 2503.10291).

That is the mean of the F1 of right and of wrong steps, over all labelled steps, per source and over all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from atomthink_plugin.training.evaluate.measures.resampling import Bootstrap, Estimate, Floats, share
from atomthink_plugin.training.evaluate.scored import Scored


@dataclass(frozen=True, slots=True)
class StepJudgement:
    """How steps are judged one by one; counts are steps.

    Attributes:
        macro_f1: Mean of the next two; without a value where steps of one kind do not occur.
        f1_right: F1 of "right".
        f1_wrong: F1 of "wrong".
        accuracy: Share of steps judged rightly.
    """

    macro_f1: Estimate
    f1_right: Estimate
    f1_wrong: Estimate
    accuracy: Estimate


@dataclass(frozen=True, slots=True)
class Steps:
    """All that is said about single steps.

    Attributes:
        all: Over all labelled steps.
        subsets: Over those of each subset.
    """

    all: StepJudgement
    subsets: Mapping[str, StepJudgement]


def steps(chains: Sequence[Scored], threshold: float, bootstrap: Bootstrap) -> Steps:
    """Returns the measures over the chains' labelled steps; the bootstrap is of the same chains."""
    table = confusion(chains, threshold)
    subset_of = np.array([chain.item.subset for chain in chains])
    return Steps(
        all=judgement(table, bootstrap),
        subsets={
            str(name): judgement(table * (subset_of == name)[:, None], bootstrap) for name in sorted(set(subset_of))
        },
    )


def confusion(chains: Sequence[Scored], threshold: float) -> Floats:
    """Returns for each chain its right steps taken for right and for wrong, its wrong ones for wrong and for right."""
    table = np.zeros((len(chains), 4))
    for row, chain in zip(table, chains, strict=True):
        for score, label in chain.judged():
            row[(0 if label else 2) + ((score >= threshold) != label)] += 1
    return table


def judgement(table: Floats, bootstrap: Bootstrap) -> StepJudgement:
    """Returns the measures of a confusion table."""
    count = int(table.sum())
    return StepJudgement(
        macro_f1=bootstrap.estimate(table, lambda sums: (f1_right(sums) + f1_wrong(sums)) / 2, count),
        f1_right=bootstrap.estimate(table, f1_right, count),
        f1_wrong=bootstrap.estimate(table, f1_wrong, count),
        accuracy=bootstrap.estimate(table, accuracy, count),
    )


def f1_right(sums: Floats) -> Floats:
    """Returns F1 of the class of right steps, NaN without any."""
    return _f1(sums[..., 0], sums[..., 1], sums[..., 3])


def f1_wrong(sums: Floats) -> Floats:
    """Returns F1 of the class of wrong steps, NaN without any."""
    return _f1(sums[..., 2], sums[..., 3], sums[..., 1])


def accuracy(sums: Floats) -> Floats:
    """Returns the share of steps judged rightly."""
    return share(sums[..., 0] + sums[..., 2], sums.sum(axis=-1))


def _f1(found: Floats, missed: Floats, mistaken: Floats) -> Floats:
    there = found + missed
    return np.where(there == 0, np.nan, share(2 * found, there + found + mistaken))
