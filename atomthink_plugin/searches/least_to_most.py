"""Least-to-most prompting: simpler sub-questions first, each answered with the answers before it.

Source: Zhou et al., arXiv 2205.10625. The last sub-question is the question itself.

Different from the paper: the prompts have no examples, and answers are chains in the run's format.
"""

from __future__ import annotations

from typing import Final

from atomthink_plugin.api import Choice, Count, Path, Prompt, Search, SearchTree
from atomthink_plugin.formats.parts import append
from atomthink_plugin.searches.parts.subquestions import PLAN, answers, furthest, grown, listed, text_of

_DECOMPOSE: Final = (
    "Do not answer the question yet. Which simpler sub-questions have to be answered first? Write at most {limit}, in "
    'the order in which they have to be answered, each on a line of its own: "1. ...", "2. ..."'
)
_SUBQUESTION: Final = "{known}\n\nAnswer only this sub-question: {subquestion}"
_QUESTION: Final = "{known}\n\nNow answer the question itself."


def least_to_most(subquestions: Count = 4) -> Search:
    """Asks for sub-questions, answers them in turn, and then the question itself. Each answer sees all earlier ones.

    If the reply has no numbered sub-questions, only the question itself is answered, by the chain of `thinking=quick`
    at the same temperature. Sub-questions are left out where the context has no room for the answers so far. If the
    budget is spent before the question itself is answered, the last answer is the reply.

    Args:
        subquestions: Maximum number of sub-questions before the question itself. Further ones are left out.
    """

    async def search(tree: SearchTree) -> Choice:
        chains: list[Path] = []
        known = ""
        asked = [] if tree.root.final else await _subquestions(tree, subquestions)
        for number, subquestion in enumerate(asked, start=1):
            answered = await answers(tree, [_SUBQUESTION.format(known=known, subquestion=subquestion)])
            if not answered or not grown(tree, answered[0]):
                break
            chains += answered
            tree.note(answered[0], f"subquestion {number} of {len(asked)}")
            known += f"\n\nSub-question: {subquestion}\nAnswer: {text_of(answered[0])}"
        final = await answers(tree, [_QUESTION.format(known=known)]) if known else []
        path = furthest([*chains, *(final or await tree.rollouts(1))])
        return Choice(path, 0.0, tree.why(path))

    return search


async def _subquestions(tree: SearchTree, limit: int) -> list[str]:
    """Returns the sub-questions; empty if none can be read."""
    prompt = Prompt(append(tree.question.messages, "\n\n" + _DECOMPOSE.format(limit=limit)))
    found: list[str] = []
    for reply in await tree.ask(tree.root, prompt, use="decompose", unit=PLAN):
        found = listed(reply.step.text if reply.step is not None else "")
        tree.note(reply, f"subquestions {len(found)}, kept {len(found[:limit])}")
    return found[:limit]
