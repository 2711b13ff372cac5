"""Self-refinement: a draft, its review, and a new draft, until a review accepts one.

Source: Self-Refine (Madaan et al., arXiv 2303.17651) and its code for mathematics: at most 4 attempts, the last draft
and its review in the prompt, accepted by "it is correct".

Different from the published code: drafts are chains in the run's format. The review and the new draft have separate
prompts, without examples. A draft is replaced only if its review says "It is wrong": models that review badly would
otherwise lose right answers (Huang et al., arXiv 2310.01798).
"""

from __future__ import annotations

import re
from typing import Final, Literal

from atomthink_plugin.api import Choice, Count, Path, Prompt, Search, SearchTree
from atomthink_plugin.formats.parts import append
from atomthink_plugin.searches.parts.subquestions import answers, furthest, grown, text_of

REVIEW_INSTRUCTION: Final = (
    "Review the proposed solution against the question and the image: check every reading, every deduction and every "
    'calculation, and say what is wrong and how to correct it. End with "It is correct." or "It is wrong."'
)

REFINE_INSTRUCTION: Final = "Solve the question again. Correct what the review found and keep what is right."

Verdict = Literal["correct", "wrong"]

_VERDICT: Final = re.compile(r"\bit is (correct|wrong|incorrect|not correct)\b", re.IGNORECASE)


def verdict_of(review: str) -> Verdict | None:
    """Returns the last verdict that a review states, None if it states none."""
    found = _VERDICT.findall(review)
    if not found:
        return None
    return "correct" if found[-1].casefold() == "correct" else "wrong"


def self_refine(rounds: Count = 3) -> Search:
    """Reviews a chain and writes a new one, up to `rounds` times.

    The first draft is the chain that `thinking=quick` gives at the same temperature. The model in the role `critic`
    reviews it; without one, the policy itself does. The search ends when a review does not call the draft wrong, after
    `rounds` reviews, when the budget is spent, or when the context is full. The last draft is the reply; if it has no
    answer, an earlier one that has.

    Args:
        rounds: Maximum number of reviews. There are up to `rounds + 1` drafts.
    """

    async def search(tree: SearchTree) -> Choice:
        drafts = await tree.rollouts(1)
        for number in range(1, rounds + 1):
            draft = drafts[-1]
            if not grown(tree, draft):
                break
            review = await _review(tree, draft, number)
            if verdict_of(review) != "wrong":
                break
            text = f"\n\nProposed solution:\n{text_of(draft)}\n\nReview:\n{review}\n\n{REFINE_INSTRUCTION}"
            refined = await answers(tree, [text])
            if not refined:
                break  # the context has no room for a draft and its review
            drafts += refined
        for number, draft in enumerate(drafts, start=1):
            if grown(tree, draft):
                tree.note(draft, f"draft {number}")
        best = furthest(drafts)
        return Choice(best, 0.0, tree.why(best))

    return search


async def _review(tree: SearchTree, draft: Path, number: int) -> str:
    """Returns the review of a draft; empty where it cannot be asked for."""
    text = f"\n\nProposed solution:\n{text_of(draft)}\n\n{REVIEW_INSTRUCTION}"
    review = ""
    for reply in await tree.ask(draft, Prompt(append(tree.question.messages, text)), use="critic", role="critic"):
        review = reply.step.text if reply.step is not None else ""
        tree.note(reply, f"round {number}, verdict {verdict_of(review) or 'none'}")
    return review
