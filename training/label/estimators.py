"""Two methods to find out by rollouts which steps of a chain are right.

A prefix of a chain counts as right if the policy can still reach the right answer from it. The functions know neither
models nor files: the caller samples.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

Labels = tuple[float | None, ...]

Rollouts = Callable[[int, range], Awaitable[int]]
"""Returns how many of some rollouts reach the right answer, given the number of steps to keep and their indices.

The rollout of an index is always the same, so that methods and numbers of rollouts can be compared.
"""

Method = Callable[[int, bool | None, Rollouts, int], Awaitable[Labels]]
"""Labels a chain, given its number of steps, whether the answer it states is right (None if it states none), and what
samples rollouts, at most so many from a prefix."""


async def monte_carlo(steps: int, is_right: bool | None, rollouts: Rollouts, n: int) -> Labels:
    """Labels each step with the share of right ones among `n` rollouts after it, all at the same time.

    Source: Math-Shepherd (arXiv 2312.08935). The share is its soft estimate, whether it is above 0 its hard one. The
    ablation of BIS (github.com/JinYuanLi0012/Balanced-Info-MPRM) has better PRMs by the hard one.
    """
    right = await asyncio.gather(*(rollouts(kept, range(n)) for kept in range(1, steps + 1)))
    return tuple(count / n for count in right)


async def omega(steps: int, is_right: bool | None, rollouts: Rollouts, n: int) -> Labels:
    """Labels steps with 1 before the first error and with 0 at it; later steps get None.

    A chain with the right answer counts as right throughout, without a rollout. If it states a wrong one, its last
    prefix is wrong without a rollout.
    """
    if is_right:
        return (1.0,) * steps
    right = await right_steps(steps - (is_right is not None), rollouts, n)
    wrong = steps - right
    return (*[1.0] * right, *[0.0] * (wrong > 0), *[None] * (wrong - 1))


async def right_steps(prefixes: int, rollouts: Rollouts, n: int) -> int:
    """Returns the number of right steps before the first wrong one; `prefixes` if no step is wrong.

    A binary search over at most `ceil(log2(prefixes + 1))` prefixes. A prefix is right as soon as one rollout is right,
    and wrong after `n` wrong ones, which are sampled one after another. The search assumes that every step before a
    right prefix is right, and every step after a wrong prefix is wrong.

    Source: OmegaPRM (arXiv 2406.06592), section 3.
    """
    right, wrong = 0, prefixes + 1
    while wrong - right > 1:
        middle = (right + wrong) // 2
        for index in range(n):
            if await rollouts(middle, range(index, index + 1)):
                right = middle
                break
        else:
            wrong = middle
    return right


METHODS: Final[Mapping[str, Method]] = {"monte_carlo": monte_carlo, "omega": omega}
