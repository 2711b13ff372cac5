"""From the successes of rollouts to what is said about abilities.

Three quantities, each over the records whose last step takes an ability; u(h) is the share of the rollouts from
prefix h with the right answer:

- utilisation, as published (arXiv 2503.06252): the mean of u(h_n), where h_n ends with the right step n.
- gain: the mean of u(h_n) - u(no history).
- quality: the sum of u(h_n-1) over the sum of u(h_n). This is the composite score: outcomes given back to abilities.

Utilisation says what may still be lost AFTER a step of that ability. It rises along the chain and orders abilities by
where their steps stand, not by how well the model does them; gain has the same fault. How well the model does step n
is what is lost ON it: from h_n-1 it reaches the right answer if its own step n is right and the rest succeeds,
u(h_n-1) = p_n u(h_n), where a wrong step loses the question. So p_n is the ratio of the two, and the ratio of sums is
the mean of p_n weighted by u(h_n), which is how much a prefix can tell about its step. A step that is right in other
words than the reference's counts as right, since only answers are compared. So does a wrong step that the model
recovers from, or that makes no difference to the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from atomthink_plugin.accuracy_stats import wilson
from atomthink_plugin.tasks.capability.records import StepRecord
from atomthink_plugin.tasks.capability.rollouts import Results
from atomthink_plugin.tasks.capability.taxonomy import Taxonomy

RESAMPLES: Final = 2000
ALL: Final = "all"


@dataclass(frozen=True, slots=True)
class RateEstimate:
    """A value with its 95 % interval: bootstrap over chains, whose prefixes stand or fall together."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class StepRates:
    """What rollouts said about one record's last step.

    Attributes:
        chain: Where it is from.
        ability: What it takes.
        before: u of the prefix without it.
        after: u of the prefix with it.
        control: u without history.
        concluded: Whether it states the answer, so that `after` says nothing about the model.
    """

    chain: str
    ability: str
    before: float
    after: float
    control: float
    concluded: bool = False


@dataclass(frozen=True, slots=True)
class Capability:
    """What is said about an ability, a group or all of them.

    Attributes:
        name: Of the ability, of the group, or `all`.
        group: The group of an ability; empty for groups and `all`.
        records: Steps that were measured.
        chains: Chains they are from.
        quality: How often the model does such a step rightly; None where nothing succeeds behind it.
        utilisation: The published quantity; None where all such steps conclude.
        gain: Utilisation against the control; None likewise.
    """

    name: str
    group: str
    records: int
    chains: int
    quality: RateEstimate | None
    utilisation: RateEstimate | None
    gain: RateEstimate | None


def steps_of(records: Sequence[StepRecord], measured: Results) -> list[StepRates]:
    """Returns the records' steps; those with a prefix that could not be asked are left out."""
    steps = []
    for record in records:
        n = len(record.history)
        before, after, control = (measured[record.chain, k] for k in (n - 1, n, 0))
        if before.share is not None and after.share is not None and control.share is not None:
            shares = before.share, after.share, control.share
            steps.append(StepRates(record.chain, record.ability, *shares, after.concluded))
    return steps


def capabilities(steps: Sequence[StepRates], taxonomy: Taxonomy) -> list[Capability]:
    """Returns what is said about each ability that occurs, each group and all, in the taxonomy's order.

    Raises:
        AtomThinkError: A step's ability is not in the taxonomy.
    """
    group_of = {step.ability: taxonomy.group_of(step.ability) for step in steps}
    present = [ability for ability in taxonomy.abilities if ability.name in group_of]
    rows = [_capability(a.name, a.group, [step for step in steps if step.ability == a.name]) for a in present]
    groups = dict.fromkeys(ability.group for ability in present)
    rows += [_capability(group, "", [step for step in steps if group_of[step.ability] == group]) for group in groups]
    return [*rows, _capability(ALL, "", steps)]


def _capability(name: str, group: str, steps: Sequence[StepRates]) -> Capability:
    going = [step for step in steps if not step.concluded]
    return Capability(
        name=name,
        group=group,
        records=len(steps),
        chains=len({step.chain for step in steps}),
        quality=ratio([(step.chain, step.before, step.after) for step in steps]),
        utilisation=ratio([(step.chain, step.after, 1.0) for step in going]),
        gain=ratio([(step.chain, step.after - step.control, 1.0) for step in going], least=-1.0),
    )


def ratio(parts: Sequence[tuple[str, float, float]], least: float = 0.0) -> RateEstimate | None:
    """Returns the sum of numerators over the sum of denominators, with its interval; None for a sum of zero.

    Args:
        parts: Chain, numerator and denominator.
        least: The smallest value there is; the largest is 1, but for chance.
    """
    chains = {chain: index for index, chain in enumerate(dict.fromkeys(chain for chain, _, _ in parts))}
    sums = np.zeros((len(chains), 2))
    for chain, top, bottom in parts:
        sums[chains[chain]] += top, bottom
    top, bottom = sums.sum(axis=0)
    if bottom <= 0:
        return None
    value = float(top / bottom)
    low, high = (least, 1.0) if len(chains) < 2 else _interval(sums)
    if low == high and least == 0.0:  # chains that are all alike tell no resample how sure they are
        low, high = wilson(min(round(value * len(chains)), len(chains)), len(chains))
    return RateEstimate(value, low, high)


def _interval(sums: NDArray[np.float64]) -> tuple[float, float]:
    """The bootstrap's 95 % interval; resamples without any denominator say nothing."""
    count = len(sums)
    weights = np.random.default_rng(0).multinomial(count, [1 / count] * count, RESAMPLES)
    tops, bottoms = (weights @ sums).T
    low, high = np.quantile(tops[bottoms > 0] / bottoms[bottoms > 0], (0.025, 0.975))
    return float(low), float(high)
