"""Best-of-N by a judge that names one of the chains.

Source: the study of o1's reasoning patterns (Wu et al., arXiv 2410.13639) and its code, with 4 and 8 chains. One call
shows the judge the question and all replies.

Different from the published code: the judge names a number, and the chain of that number is the reply. In the published
code the judge writes the best reply out again and may change it. The published temperature is 0.3 for all calls; here
it is the run's for the chains and 0 for the verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from atomthink_plugin.api import Choice, Count, Prompt, Question, Search, SearchTree
from atomthink_plugin.searches.parts.judging import ballot, select
from atomthink_plugin.searches.parts.subquestions import text_of
from atomthink_plugin.searches.parts.voting import elect

_TASK: Final = "Decide which of the candidate solutions answers the question correctly."


def judge_best_of_n(n: Count = 8) -> Search:
    """Samples `n` chains, shows all of them to a judge at once, and returns the one that it names.

    The model in the role `judge` is asked once; without one, the policy itself is. It sees the chains that have an
    answer, equal ones once. If there is only one of these, there is no verdict. The likeliest chain wins if the verdict
    names none, if the chains spent the budget, or if they do not fit in the judge's context together. If no chain has
    an answer, the likeliest unfinished one is returned.

    Args:
        n: Chains sampled.
    """

    async def search(tree: SearchTree) -> Choice:
        paths = await tree.rollouts(n)
        candidates = list({path.key: path for path in paths if path.final}.values())
        if not candidates:
            return await elect(tree, paths, [1.0] * n)
        prompt = chain_ballot(tree.question, [text_of(path) for path in candidates])
        return Choice(await select(tree, tree.root, prompt, candidates), 0.0, "final")

    return search


def chain_ballot(question: Question, chains: Sequence[str]) -> Prompt:
    """Returns the prompt that shows a judge the candidate chains."""
    return ballot(question.messages, _TASK, chains)
