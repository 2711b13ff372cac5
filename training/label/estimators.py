"""Two ways to find out from rollouts which steps of a chain are right; pure, the sampling is somebody else's.

Both take a prefix for right if the policy can still reach the right answer from behind it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

Rollouts = Callable[[int, range], Awaitable[int]]
"""Given how many steps are kept and which samples are meant: how many of these reach the right answer.

A sample is the same whenever it is asked for, so that ways and numbers of rollouts can be compared.
"""


async def monte_carlo(prefixes: int, rollouts: Rollouts, n: int) -> list[float]:
    """Returns the share of right rollouts from each prefix, of one step to `prefixes` steps.

    Source: Math-Shepherd (arXiv 2312.08935): the share is its soft estimate, whether it is above 0 its hard one.

    Args:
        prefixes: How many prefixes there are.
        rollouts: Samples.
        n: Rollouts from each prefix, all at the same time.
    """
    right = await asyncio.gather(*(rollouts(kept, range(n)) for kept in range(1, prefixes + 1)))
    return [count / n for count in right]


async def right_steps(prefixes: int, rollouts: Rollouts, n: int) -> int:
    """Returns how many steps are right before the first wrong one; `prefixes` if none is wrong.

    Binary search: a prefix is right as soon as one rollout is, and wrong after `n` wrong ones, drawn one after
    another. It looks at `ceil(log2(prefixes + 1))` prefixes at most, and takes for granted that what follows a wrong
    prefix is wrong and what precedes a right one is right.

    Source: OmegaPRM (arXiv 2406.06592), section 3.

    Args:
        prefixes: How many prefixes there are, of one step and more.
        rollouts: Samples.
        n: Rollouts from a prefix before it counts as wrong.
    """
    right, wrong = 0, prefixes + 1
    while wrong - right > 1:
        middle = (right + wrong) // 2
        if await _reaches(middle, rollouts, n):
            right = middle
        else:
            wrong = middle
    return right


async def _reaches(kept: int, rollouts: Rollouts, n: int) -> bool:
    for index in range(n):
        if await rollouts(kept, range(index, index + 1)):
            return True
    return False
