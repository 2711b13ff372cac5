"""Votes over final answers, shared by `majority` and `weighted`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from statistics import fmean

from atomthink_plugin.answers import group
from atomthink_plugin.api import Choice, Path, SearchTree


async def elect(tree: SearchTree, paths: Sequence[Path], weights: Sequence[float]) -> Choice:
    """Returns the likeliest path of the group of equivalent answers with the largest weight.

    Only concluded paths vote. Ties go to the group with the higher mean log-probability. Without any
    concluded path the likeliest one with a step is returned, with the reason why it ended.

    Args:
        tree: Knows why a path ended.
        paths: The candidates.
        weights: One weight per path.

    Returns:
        The choice; its value is the winning group's share of all weight, in [0, 1].
    """
    voters = [i for i, path in enumerate(paths) if path.answer is not None]
    if not voters:
        best = max(paths, key=lambda path: (path.step is not None, path.logprob))
        return Choice(best, 0.0, tree.why(best))
    # In a thread: importing math-verify takes seconds and sympy may be slow; other questions continue.
    members = await asyncio.to_thread(group, [paths[i].answer or "" for i in voters])
    groups = [[voters[j] for j in own] for own in members]
    winner = max(groups, key=lambda g: (sum(weights[i] for i in g), fmean(paths[i].logprob for i in g)))
    total = sum(weights[i] for i in voters)
    share = sum(weights[i] for i in winner) / total if total else 0.0
    return Choice(max((paths[i] for i in winner), key=lambda path: path.logprob), share, "final")
