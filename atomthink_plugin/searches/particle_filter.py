"""Particle filtering: chains that are sampled in step, and resampled by their process rewards.

Source: Puri et al., arXiv 2502.01618 (code: its_hub, ParticleFiltering): each particle samples one step, its weight is
the odds of its process reward (the softmax of the log odds), and the next population is drawn with replacement in
proportion to the weights. Finished particles keep their weights and take part. The finished particle with the largest
weight answers.

The code has both ways of resampling, but its particle filter always uses `multinomial`.

Different from the published code: once all particles have finished, they are not resampled again, which could only lose
the best of them. Particles that cannot be extended are replaced instead of counted as finished. If none can be extended
any more, as after a spent budget, a finished particle that was not drawn again still answers.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from math import exp
from typing import Literal

from atomthink_plugin.api import Aggregate, Choice, Count, Path, Search, SearchTree
from atomthink_plugin.searches.parts.aggregates import log_odds
from atomthink_plugin.searches.parts.choosing import choose, values_of

Resampling = Literal["systematic", "multinomial"]


def particle_filter(
    particles: Count = 8, resampling: Resampling = "multinomial", aggregate: Aggregate = "last"
) -> Search:
    """Samples `particles` chains at the same time and resamples them after each step by the odds of their rewards.

    Resampling copies promising chains and drops bad ones, without always dropping the second best: a chain with a
    reward of 0.8 has four times the odds of one with 0.5. Copies continue differently. Chains with an answer rank
    before chains without one, and ties go to the likelier chain.

    Args:
        particles: Chains that are sampled at the same time.
        resampling: `multinomial` draws each particle on its own, as the published code does. `systematic` gives each
            chain its expected number of copies, rounded up or down.
        aggregate: How step scores become the reward of a chain: the `last` score, the `min`, the `mean`, the product
            (`prod`) or the mean of the log odds (`log_odds`).
    """

    async def search(tree: SearchTree) -> Choice:
        swarm = [tree.root] * particles
        dropped: list[Path] = []
        step = 0
        while swarm and not all(path.final for path in swarm):
            moved = await _moved(tree, swarm)
            dropped += [path for path, after in zip(swarm, moved, strict=True) if after is None]
            swarm = [path for path in moved if path is not None]
            if swarm and not all(path.final for path in swarm):
                values = await values_of(tree, swarm, aggregate)
                drawn = resampled(values, _points(tree.question.key, step, particles, resampling))
                _note(tree, swarm, values, drawn)
                dropped += [path for i, path in enumerate(swarm) if path.final and i not in drawn]
                swarm = [swarm[i] for i in drawn]
            step += 1
        ends = swarm or dropped
        return choose(tree, ends, await values_of(tree, ends, aggregate))

    return search


async def _moved(tree: SearchTree, swarm: Sequence[Path]) -> list[Path | None]:
    """Returns each particle after its next step, None if it cannot be extended. Finished ones stay."""
    open_slots = [i for i, path in enumerate(swarm) if not path.final]
    copies: Counter[str] = Counter()
    firsts = []
    for i in open_slots:  # the k-th copy of a node draws its sample k
        firsts.append(copies[swarm[i].key])
        copies[swarm[i].key] += 1
    families = await tree.expand([swarm[i] for i in open_slots], 1, first=firsts)
    moved: list[Path | None] = list(swarm)
    for i, family in zip(open_slots, families, strict=True):
        moved[i] = next(iter(family), None)
    return moved


def resampled(values: Sequence[float], points: Sequence[float]) -> list[int]:
    """Returns the index of the particle at each point in [0, 1), if each particle takes its share of the odds.

    Example:
        >>> resampled([0.8, 0.5], [0.0, 0.79, 0.81])
        [0, 0, 1]
    """
    sums = list(accumulate(exp(log_odds(value)) for value in values))
    return [min(bisect_right(sums, point * sums[-1]), len(sums) - 1) for point in points]


def _points(key: str, step: int, count: int, resampling: Resampling) -> list[float]:
    """Returns the random points of a resampling: the same in every run for one question."""
    if resampling == "systematic":
        return [(_uniform(f"{key}\0{step}") + i) / count for i in range(count)]
    return [_uniform(f"{key}\0{step}\0{i}") for i in range(count)]


def _uniform(identity: str) -> float:
    digest = hashlib.blake2b(f"resampling\0{identity}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def _note(tree: SearchTree, swarm: Sequence[Path], values: Sequence[float], drawn: Sequence[int]) -> None:
    odds = [exp(log_odds(value)) for value in values]
    for path in {path.key: path for path in swarm}.values():
        own = [i for i, other in enumerate(swarm) if other.key == path.key]
        weight = sum(odds[i] for i in own) / sum(odds)
        tree.note(path, f"weight {weight:.3f}, particles {len(own)}, copies {sum(i in own for i in drawn)}")
