"""Majority voting that stops when the result is certain enough.

Source: Adaptive-Consistency (Aggarwal et al., arXiv 2305.11860): chains are drawn one by one until the leading answer
is the likeliest one with a probability of 0.95, from a Beta posterior over the two answers with the most votes.
Published with at most 40 chains.

Different from the published code: it also stops when the remaining chains cannot change the result, and several chains
are drawn at a time: as many as are needed before the search could possibly stop. The result is that of drawing them one
by one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from math import comb
from typing import Annotated

from annotated_types import Gt, Le

from atomthink_plugin.answers import group
from atomthink_plugin.api import Choice, Count, Path, Search, SearchTree
from atomthink_plugin.searches.parts.voting import elect


def adaptive_majority(n: Count = 8, confidence: Annotated[float, Gt(0.5), Le(1)] = 0.95) -> Search:
    """Draws chains until their vote is decided, at most `n`. The answer that most of them reach wins, see `majority`.

    A note at the end of the chosen chain gives the chains drawn and an estimate of the tokens saved.

    Args:
        n: Maximum number of chains.
        confidence: Probability, from the votes so far, that the leading answer is likelier than the second one, at
            which the search stops. With 1 it stops only when the remaining chains cannot change the winner: its answer
            is then that of `majority`, if answers that equal a third one also equal each other.
    """

    def decided(votes: tuple[int, int], left: int) -> bool:
        return left <= 0 or votes[0] - votes[1] > left or (confidence < 1 and certainty(*votes) >= confidence)

    async def search(tree: SearchTree) -> Choice:
        paths: list[Path] = []
        votes = (0, 0)
        while not paths or not decided(votes, n - len(paths)):
            left = n - len(paths)
            # If all of the next chains vote for the leader, this many decide the vote; fewer never do.
            more = next(k for k in range(1, left + 1) if decided((votes[0] + k, votes[1]), left - k))
            paths += await tree.rollouts(more, first=len(paths))
            votes = await _most_votes(paths)
        choice = await elect(tree, paths, [1.0] * len(paths))
        _note(tree, choice.path, paths, votes, n)
        return choice

    return search


def certainty(most: int, second: int) -> float:
    """Returns the probability that the first of two answers is the likelier one, given their votes.

    It is the probability that a Beta(most + 1, second + 1) variable is larger than 1/2.

    Example:
        >>> certainty(4, 0), certainty(2, 2)
        (0.96875, 0.5)
    """
    total = most + second + 1
    return sum(comb(total, k) for k in range(most + 1)) / (1 << total)


async def _most_votes(paths: Sequence[Path]) -> tuple[int, int]:
    """Returns the votes of the two leading answers."""
    answers = [path.answer for path in paths if path.answer is not None]
    groups = await asyncio.to_thread(group, answers)  # comparing expressions may be slow
    most, second, *_ = *sorted(map(len, groups), reverse=True), 0, 0
    return most, second


def _note(tree: SearchTree, chosen: Path, paths: Sequence[Path], votes: tuple[int, int], n: int) -> None:
    if chosen.key == tree.root.key:
        return
    tokens = sum(len(step.token_ids) for path in paths for step in path.steps[tree.root.depth :])
    saved = round(tokens / len(paths) * (n - len(paths)))
    text = f"drawn {len(paths)} of {n}, votes {votes[0]} to {votes[1]}, certainty {certainty(*votes):.3f}"
    tree.note(chosen, f"{text}, tokens saved {saved}")
