"""Pairwise verdicts: which of two candidates a judge prefers, and the winner of several by duels."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from atomthink_plugin.api import Path, Prompt, SearchTree, Unit

VERDICT: Final = Unit("verdict", tokens=512, partial=True)
"""A judge's reply: a sentence or two."""

Duel = Callable[[Path, Path], Awaitable[Path]]
"""Returns the better one of two candidates."""

_CHOSEN: Final = re.compile(r"I choose response\W{0,3}([12])(?![\d/])", re.IGNORECASE)


def chosen(verdict: str) -> int | None:
    """Returns the index of the response that a verdict chooses last, 0 or 1; None if it chooses none.

    Example:
        >>> chosen("Since it names every colour, I choose response [2]."), chosen("I choose response [1/2].")
        (1, None)
    """
    found = _CHOSEN.findall(verdict)
    return int(found[-1]) - 1 if found else None


async def duel(tree: SearchTree, at: Path, prompt: Prompt, pair: tuple[Path, Path]) -> Path:
    """Asks the role `judge` once which one of two candidates is better.

    The likelier candidate wins where the verdict chooses neither or the budget does not pay for one, and the first of
    two that are equally likely.

    Args:
        tree: Asks.
        at: The node that the verdict is entered under.
        prompt: Shows the first candidate as response 1 and the second as response 2.
        pair: The candidates.
    """
    replies = await tree.ask(at, prompt, use="judge", role="judge", unit=VERDICT)
    index = chosen(replies[0].step.text) if replies and replies[0].step is not None else None
    return max(pair, key=lambda path: path.logprob) if index is None else pair[index]


async def tournament(candidates: Sequence[Path], duel: Duel) -> Path:
    """Returns the winner of a knockout: one duel fewer than candidates.

    Neighbors meet, in the order of the candidates, all pairs of a round at the same time. A candidate without a
    neighbor enters the next round.
    """
    while len(candidates) > 1:
        pairs = list(zip(candidates[::2], candidates[1::2], strict=False))
        alone = candidates[2 * len(pairs) :]
        candidates = [*await asyncio.gather(*(duel(first, second) for first, second in pairs)), *alone]
    return candidates[0]
