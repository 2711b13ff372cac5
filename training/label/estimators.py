"""Two methods to find out by rollouts which steps of a chain are right.

A prefix of a chain counts as right if the policy can still reach the right answer from it. The functions know neither
models nor files: somebody else samples.
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


async def monte_carlo(prefixes: int, rollouts: Rollouts, n: int) -> list[float]:
    """Returns the share of right rollouts from each prefix, of one step to `prefixes` steps.

    Source: Math-Shepherd (arXiv 2312.08935). The share is its soft estimate, whether it is above 0 its hard one.

    Args:
        prefixes: The number of prefixes.
        rollouts: Samples rollouts.
        n: Rollouts from each prefix, all at the same time.
    """
    right = await asyncio.gather(*(rollouts(kept, range(n)) for kept in range(1, prefixes + 1)))
    return [count / n for count in right]


async def right_steps(prefixes: int, rollouts: Rollouts, n: int) -> int:
    """Returns the number of right steps before the first wrong one; `prefixes` if no step is wrong.

    A binary search over at most `ceil(log2(prefixes + 1))` prefixes. A prefix is right as soon as one rollout is right,
    and wrong after `n` wrong ones, which are sampled one after another. The search assumes that every step before a
    right prefix is right, and every step after a wrong prefix is wrong.

    Source: OmegaPRM (arXiv 2406.06592), section 3.

    Args:
        prefixes: The number of prefixes.
        rollouts: Samples rollouts.
        n: Rollouts from a prefix before it counts as wrong.
    """
    right, wrong = 0, prefixes + 1
    while wrong - right > 1:
        middle = (right + wrong) // 2
        if await _is_right(middle, rollouts, n):
            right = middle
        else:
            wrong = middle
    return right


async def _is_right(kept: int, rollouts: Rollouts, n: int) -> bool:
    for index in range(n):
        if await rollouts(kept, range(index, index + 1)):
            return True
    return False


async def label_by_monte_carlo(steps: int, is_right: bool | None, rollouts: Rollouts, n: int) -> Labels:
    """Labels each step with the share of right rollouts after it."""
    return tuple(await monte_carlo(steps, rollouts, n))


async def label_by_search(steps: int, is_right: bool | None, rollouts: Rollouts, n: int) -> Labels:
    """Labels steps with 1 before the first error and with 0 at it; later steps get None.

    A chain with the right answer counts as right throughout, without a rollout.
    """
    if is_right:
        return (1.0,) * steps
    # A chain that states a wrong answer is wrong as a whole: its last prefix needs no rollout.
    right = await right_steps(steps - (is_right is not None), rollouts, n)
    wrong = steps - right
    return (*[1.0] * right, *[0.0] * (wrong > 0), *[None] * (wrong - 1))


METHODS: Final[Mapping[str, Method]] = {"monte_carlo": label_by_monte_carlo, "omega": label_by_search}
