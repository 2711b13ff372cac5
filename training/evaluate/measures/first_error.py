"""Does the PRM find the first wrong step? ProcessBench's F1 (arXiv 2412.06559), and how far off it is.

F1 is the harmonic mean of two accuracies: over chains with a wrong step, how often the first step that is scored below
the threshold is the first wrong one; over chains without, how often no step is. Chains of which the first wrong step
is not known (an unlabelled step before it) are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from atomthink_plugin.training.evaluate.measures.resampling import Bootstrap, Estimate, Floats, harmonic, share
from atomthink_plugin.training.evaluate.scored import Scored


@dataclass(frozen=True, slots=True)
class Detection:
    """F1 and its parts; counts are chains.

    Attributes:
        f1: Harmonic mean of the next two; without a value where one kind of chain does not occur.
        wrong: Accuracy on chains with a wrong step.
        right: Accuracy on chains without.
    """

    f1: Estimate
    wrong: Estimate
    right: Estimate


@dataclass(frozen=True, slots=True)
class Position:
    """Where the PRM sees the first error of chains that have one, as shares of them; counts are chains.

    Attributes:
        exact: At the first wrong step.
        early: Before it.
        late: Behind it.
        missed: Nowhere.
        distance: Mean distance in steps, over chains where it sees one.
        offset: Mean signed distance, negative for early, over the same chains.
    """

    exact: Estimate
    early: Estimate
    late: Estimate
    missed: Estimate
    distance: Estimate
    offset: Estimate


@dataclass(frozen=True, slots=True)
class FirstError:
    """All that is said about first errors.

    Attributes:
        all: Over all chains.
        mean: F1 averaged over the subsets that have one, as ProcessBench's headline; its count is of subsets.
        subsets: Each subset.
        position: Of the error seen.
        unknown: Chains left out, of which the first wrong step is not known.
    """

    all: Detection
    mean: Estimate
    subsets: Mapping[str, Detection]
    position: Position
    unknown: int


def first_error(chains: Sequence[Scored], threshold: float, bootstrap: Bootstrap) -> FirstError:
    """Returns the measures over chains; the bootstrap is of the same chains."""
    hits = np.array([_hits(chain, threshold) for chain in chains], dtype=np.float64)
    subset_of = np.array([chain.item.subset for chain in chains])
    subsets = {name: _detection(hits * (subset_of == name)[:, None], bootstrap) for name in sorted(set(subset_of))}
    with_f1 = [name for name, detection in subsets.items() if detection.f1.value is not None]
    columns = [hits * (subset_of == name)[:, None] for name in with_f1]
    by_subset = np.concatenate(columns, axis=1) if columns else np.zeros((len(chains), 4))
    return FirstError(
        all=_detection(hits, bootstrap),
        mean=bootstrap.estimate(by_subset, _mean_f1, len(with_f1)),
        subsets={str(name): detection for name, detection in subsets.items()},
        position=_position(chains, threshold, bootstrap),
        unknown=sum(not chain.item.known for chain in chains),
    )


def _hits(chain: Scored, threshold: float) -> list[int]:
    """Whether a chain has an error, whether that was seen; whether it has none, whether none was seen."""
    if not chain.item.known:
        return [0, 0, 0, 0]
    error = chain.item.first_error
    hit = chain.first_flagged(threshold) == error
    return [0, 0, 1, int(hit)] if error is None else [1, int(hit), 0, 0]


def _detection(hits: Floats, bootstrap: Bootstrap) -> Detection:
    wrong, right = int(hits[:, 0].sum()), int(hits[:, 2].sum())
    return Detection(
        f1=bootstrap.estimate(hits, _f1, wrong + right),
        wrong=bootstrap.estimate(hits, lambda sums: share(sums[..., 1], sums[..., 0]), wrong),
        right=bootstrap.estimate(hits, lambda sums: share(sums[..., 3], sums[..., 2]), right),
    )


def _f1(sums: Floats) -> Floats:
    return harmonic(share(sums[..., 1], sums[..., 0]), share(sums[..., 3], sums[..., 2]))


def _mean_f1(sums: Floats) -> Floats:
    return np.asarray(_f1(sums.reshape(*sums.shape[:-1], sums.shape[-1] // 4, 4)).mean(axis=-1))


def _position(chains: Sequence[Scored], threshold: float, bootstrap: Bootstrap) -> Position:
    rows = np.array([_place(chain, threshold) for chain in chains], dtype=np.float64)
    erroneous, seen = int(rows[:, 0].sum()), int(rows[:, 1:4].sum())

    def among(column: int) -> Estimate:
        return bootstrap.estimate(rows, lambda sums: share(sums[..., column], sums[..., 0]), erroneous)

    def steps(column: int) -> Estimate:
        return bootstrap.estimate(rows, lambda sums: share(sums[..., column], sums[..., 1:4].sum(axis=-1)), seen)

    return Position(among(1), among(2), among(3), among(4), steps(5), steps(6))


def _place(chain: Scored, threshold: float) -> list[int]:
    """Whether there is an error; seen there, early, late or nowhere; distance and signed distance in steps."""
    error = chain.item.first_error
    if error is None or not chain.item.known:
        return [0] * 7
    flagged = chain.first_flagged(threshold)
    if flagged is None:
        return [1, 0, 0, 0, 1, 0, 0]
    off = flagged - error
    return [1, int(off == 0), int(off < 0), int(off > 0), 0, abs(off), off]
