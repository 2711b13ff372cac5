"""Self-refinement: a draft, its review, and a new draft, until a review accepts one.

Source: Self-Refine (Madaan et al., arXiv 2303.17651) and its code for mathematics: at most 4 attempts, the last draft
and its review in the prompt, accepted by "it is correct".

Different from the published code: drafts are chains in the run's format. The review and the new draft have separate
prompts, without examples. A draft is replaced only if its review says "It is wrong": models that review badly would
otherwise lose right answers (Huang et al., arXiv 2310.01798).
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final, Literal

from atomthink_plugin.api import Choice, Count, Path, Prompt, QuestionError, Search, SearchTree, ServerError
from atomthink_plugin.formats.parts import append

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
        (draft,) = await tree.rollouts(1)
        best = draft
        for _ in range(rounds):
            if draft.step is None:
                break
            review = await _review(tree, draft)
            if verdict_of(review) != "wrong":
                break
            try:
                draft = await _refine(tree, draft, review)
            except ServerError:
                raise
            except QuestionError:
                break  # the context has no room for a draft and its review
            best = max(draft, best, key=_progress)
        return Choice(best, 0.0, tree.why(best))

    return search


async def _review(tree: SearchTree, draft: Path) -> str:
    """Returns the review of a draft; empty where it cannot be asked for."""
    text = f"\n\nProposed solution:\n{_text(draft)}\n\n{REVIEW_INSTRUCTION}"
    reviews = await tree.ask(draft, Prompt(append(tree.question.messages, text)), use="critic", role="critic")
    return reviews[0].step.text if reviews and reviews[0].step is not None else ""


async def _refine(tree: SearchTree, draft: Path, review: str) -> Path:
    """Returns a new draft: a chain from a question that holds the last draft and its review."""
    text = f"\n\nProposed solution:\n{_text(draft)}\n\nReview:\n{review}\n\n{REFINE_INSTRUCTION}"
    question = replace(tree.question, messages=append(tree.question.messages, text))
    (refined,) = await tree.rollouts(1, start=tree.begin(question))
    return refined


def _text(draft: Path) -> str:
    return "\n\n".join(step.text for step in draft.steps)


def _progress(draft: Path) -> tuple[bool, bool]:
    return draft.final, draft.step is not None
