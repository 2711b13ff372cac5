"""Voting among the most complex chains.

Source: complexity-based prompting (Fu et al., arXiv 2210.00720): 50 chains, a vote among the 40 with the most steps.
The published code counts lines; here the number of steps comes first and the number of lines second, so that whole
replies and formats with a fixed number of units are compared by their lines.

The paper's other part, examples with the most steps, belongs to `format=few_shot`.
"""

from __future__ import annotations

import math
from collections import Counter

from atomthink_plugin.api import AtomThinkError, Choice, Count, Path, Search, SearchTree
from atomthink_plugin.searches.parts.subquestions import grown
from atomthink_plugin.searches.parts.voting import elect


def complex_vote(n: Count = 50, keep: Count = 40) -> Search:
    """Samples `n` chains; the answer that most of the `keep` longest ones reach wins.

    Only chains with an answer are compared. Chains with the same number of steps and lines are ranked by their
    likelihood, then by their index. If a chain ended without an answer, the same share `keep / n` of the others votes,
    rounded up. So it is when the budget is spent: the default of 300 samples pays for about 37 chains of 8 steps, of
    which 30 vote; pass `budget_calls=None` for all 50. Ties go to the answer whose chains are likelier.

    Args:
        n: Chains sampled.
        keep: Chains that vote, at most `n`.

    Raises:
        AtomThinkError: `keep` is larger than `n`.
    """
    if keep > n:
        raise AtomThinkError(f"`keep={keep}` must be at most `n={n}`, the number of chains: pass a smaller `keep=`")

    async def search(tree: SearchTree) -> Choice:
        paths = await tree.rollouts(n)
        concluded = [path for path in paths if path.final]
        longest = sorted(concluded, key=lambda path: (*_length(path), path.logprob), reverse=True)
        voters = longest[: math.ceil(keep * len(concluded) / n)]
        votes = Counter(path.key for path in voters)
        for path in concluded:
            if grown(tree, path):
                tree.note(path, f"steps {path.depth}, lines {_length(path)[1]}, votes {votes[path.key]}")
        return await elect(tree, voters or paths, [1.0] * len(voters or paths))

    return search


def _length(path: Path) -> tuple[int, int]:
    """Returns the numbers of steps and of lines that are not empty."""
    return path.depth, sum(bool(line.strip()) for step in path.steps for line in step.text.splitlines())
