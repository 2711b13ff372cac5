"""Estimates from rollouts how well a model performs the steps of each ability.

Each of the three quantities is computed over the records whose last step needs the ability. u(h) is the share of
rollouts from prefix h that reach the right answer. h_n is the prefix that ends with the right step n.

- utilisation, as published (arXiv 2503.06252): the mean of u(h_n).
- gain: the mean of u(h_n) - u(no history).
- quality: the sum of u(h_n-1) divided by the sum of u(h_n).

Utilisation measures what can still go wrong AFTER a step. It rises along the chain, so it ranks abilities by the
position of their steps and not by how well the model performs them. Gain has the same flaw.

Quality estimates the probability p_n that the model performs step n correctly. From h_n-1 the model reaches the right
answer if its own step n is right and the rest succeeds: u(h_n-1) = p_n u(h_n), if a wrong step loses the question. The
ratio of the sums is the mean of the p_n weighted by u(h_n), because a prefix with more success gives more information.
A right step in other words than the reference's counts as right, because only answers are compared. So does a wrong
step from which the model recovers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from atomthink_plugin.accuracy_stats import wilson
from atomthink_plugin.tasks.capability.records import StepRecord
from atomthink_plugin.tasks.capability.rollouts import PrefixResults
from atomthink_plugin.tasks.capability.taxonomy import Taxonomy

RESAMPLES: Final = 2000
ALL: Final = "all"


@dataclass(frozen=True, slots=True)
class RateEstimate:
    """A value with its 95 % interval by bootstrap over chains: prefixes of one chain are not independent."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class StepRates:
    """The success rates before and after the last step of a record.

    Attributes:
        chain: The chain's id.
        ability: The ability that the step needs.
        before: u of the prefix without the step.
        after: u of the prefix with the step.
        control: u without history.
        concluded: Whether the step states the answer, so that `after` does not depend on the model.
    """

    chain: str
    ability: str
    before: float
    after: float
    control: float
    concluded: bool = False


@dataclass(frozen=True, slots=True)
class Capability:
    """The estimates of an ability, of a group, or of all steps.

    Attributes:
        name: The name of the ability or of the group, or `all`.
        group: The group of an ability; empty for groups and `all`.
        records: Number of steps.
        chains: Number of chains with such steps.
        quality: Probability of a right step, None if no rollout after such a step succeeds.
        utilisation: The published quantity, None if all such steps state the answer.
        gain: Utilisation minus the control, None in the same case.
    """

    name: str
    group: str
    records: int
    chains: int
    quality: RateEstimate | None
    utilisation: RateEstimate | None
    gain: RateEstimate | None


def step_rates(records: Sequence[StepRecord], measured: PrefixResults) -> list[StepRates]:
    """Returns the rates of the records' steps, without those that have a failed prefix."""
    steps = []
    for record in records:
        n = len(record.history)
        before, after, control = (measured[record.chain, k] for k in (n - 1, n, 0))
        if before.share is not None and after.share is not None and control.share is not None:
            shares = before.share, after.share, control.share
            steps.append(StepRates(record.chain, record.ability, *shares, after.concluded))
    return steps


def capabilities(steps: Sequence[StepRates], taxonomy: Taxonomy) -> list[Capability]:
    """Returns the estimates of each ability that occurs, of each group and of all, in the taxonomy's order.

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
    open_steps = [step for step in steps if not step.concluded]
    return Capability(
        name=name,
        group=group,
        records=len(steps),
        chains=len({step.chain for step in steps}),
        quality=ratio([(step.chain, step.before, step.after) for step in steps]),
        utilisation=ratio([(step.chain, step.after, 1.0) for step in open_steps]),
        gain=ratio([(step.chain, step.after - step.control, 1.0) for step in open_steps], least=-1.0),
    )


def ratio(parts: Sequence[tuple[str, float, float]], least: float = 0.0) -> RateEstimate | None:
    """Returns the ratio of two sums with its interval, None if the denominators sum to zero.

    Args:
        parts: Chain, numerator and denominator.
        least: The smallest possible value. The largest is 1, except by chance.
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
    if low == high and least == 0.0:  # equal chains have no variance to resample
        low, high = wilson(min(round(value * len(chains)), len(chains)), len(chains))
    return RateEstimate(value, low, high)


def _interval(sums: NDArray[np.float64]) -> tuple[float, float]:
    """Returns the bootstrap's 95 % interval. Resamples without a denominator are left out."""
    count = len(sums)
    weights = np.random.default_rng(0).multinomial(count, [1 / count] * count, RESAMPLES)
    tops, bottoms = (weights @ sums).T
    low, high = np.quantile(tops[bottoms > 0] / bottoms[bottoms > 0], (0.025, 0.975))
    return float(low), float(high)
