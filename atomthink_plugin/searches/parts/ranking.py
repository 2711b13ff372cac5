"""List-wise ranking: a judge reads all candidates of a question in one prompt and scores each from 1 to 100.

Source: the assessment of reasoning chains in Insight-V (arXiv 2411.14432): a multimodal model scores all chains of a
question in one pass, by the accuracy and the detail of their steps, at temperature 0.2. Its prompt is not published;
the one here is our own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from atomthink_plugin.api import Path, Prompt, SearchTree, Unit
from atomthink_plugin.formats.parts import append, prepend

TEMPERATURE: Final = 0.2
"""Temperature of the judge."""

SCORES: Final = Unit("scores", tokens=512, partial=True)
"""A judge's reply: one line for each candidate."""

_HEAD: Final = (
    "You are a judge of reasoning. Several responses to the question about the image are given below it. Compare them "
    "and give each a score from 1 to 100: the more accurate its steps are and the more detail that matters they have, "
    "the higher.\n\nQuestion: "
)
_FORM: Final = 'Write one line for each response and nothing else: "Response k: score".'

_SCORE: Final = re.compile(
    r"\bresponse\W{0,3}(\d{1,3})\W{1,5}(?:score\W{1,3})?(?<![-.])(\d{1,3}(?:\.\d{1,3})?)(?: ?/ ?100)?[*_)\]]{0,3}"
    r"(?=[ \t]*(?:$|[,;|(.–—-][ \t]*(?:$|[^\W\d])))",  # a calculation, a range or a number of things is no score
    re.IGNORECASE | re.MULTILINE,
)


def scores_in(reply: str, count: int) -> list[float | None]:
    r"""Returns the score of each of `count` responses that a judge's reply states; None where it states none.

    The last statement about a response counts. Scores outside of 1 to 100 are no scores.

    Example:
        >>> scores_in("Response 1: 85\nResponse 3: 40/100, misreads the bar\nResponse 4: 99", 3)
        [85.0, None, 40.0]
    """
    scores: list[float | None] = [None] * count
    for number, score in _SCORE.findall(reply):
        if 1 <= int(number) <= count and 1 <= float(score) <= 100:
            scores[int(number) - 1] = float(score)
    return scores


async def rank(tree: SearchTree, at: Path, candidates: Sequence[Path], texts: Sequence[str]) -> list[Path]:
    """Asks the role `judge` once and returns the candidates, best first.

    Equal scores are ordered by likelihood, and equally likely candidates as they are given. Candidates without a score
    come after all others: the judge left them out, its reply cannot be read, or the budget does not pay for one. The
    rank and the score are noted at each candidate.

    Args:
        tree: Asks.
        at: The node that the judge's reply is entered under. The judge sees its question.
        candidates: At least one; they are presented in this order.
        texts: What the judge sees of each.
    """
    listed = "\n\n".join(f"Response {k}:\n{text}" for k, text in enumerate(texts, 1))
    prompt = Prompt(append(prepend(at.question.messages, _HEAD), f"\n\n{listed}\n\n{_FORM}"))
    replies = await tree.ask(at, prompt, use="judge", role="judge", unit=SCORES, temperature=TEMPERATURE)
    reply = replies[0].step.text if replies and replies[0].step is not None else ""
    scores = scores_in(reply, len(candidates))
    order = sorted(range(len(candidates)), key=lambda k: (scores[k] or 0.0, candidates[k].logprob), reverse=True)
    for place, k in enumerate(order, 1):
        score = "" if scores[k] is None else f", score {scores[k]:g}"
        tree.note(candidates[k], f"rank {place} of {len(order)}{score}")
    return [candidates[k] for k in order]
