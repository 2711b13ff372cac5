"""Verdicts of a judge: which of two candidates is better, or which of several is best."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from atomthink_plugin.api import Message, Path, Prompt, SearchTree, Unit
from atomthink_plugin.formats.parts import append, prepend

VERDICT: Final = Unit("verdict", tokens=512, partial=True)
"""A judge's reply about two candidates: a sentence or two."""

BALLOT_VERDICT: Final = Unit("verdict", tokens=1024, partial=True)
"""A judge's reply about several candidates: a check of each, and the choice."""

Duel = Callable[[Path, Path], Awaitable[Path]]
"""Returns the better one of two candidates."""

_NAMING: Final = (
    'Check each candidate briefly and write no solution of your own. End with "I choose candidate N.", where N is the '
    "number of the best one."
)

_CHOSEN: Final = re.compile(r"I choose response\W{0,3}([12])(?![\d/])", re.IGNORECASE)

_STATED: Final = re.compile(
    r"\b(?:I choose|best(?: one| candidate)? is)\W{1,5}(?:(?:candidate|solution|response)\W{1,3})?"
    r"(\d{1,4})(?![\w/]|\.\d)",
    re.IGNORECASE,
)
_BARE: Final = re.compile(r"\W{0,9}(?:candidate\W{1,3})?(\d{1,4})\W{0,9}", re.IGNORECASE)


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
        tree: Asks, and notes the decision at the verdict.
        at: The node that the verdict is entered under.
        prompt: Shows the first candidate as response 1 and the second as response 2.
        pair: The candidates.
    """
    replies = await tree.ask(at, prompt, use="judge", role="judge", unit=VERDICT)
    index = chosen(replies[0].step.text) if replies and replies[0].step is not None else None
    if replies:
        tree.note(
            replies[0], "prefers none" if index is None else f"prefers {pair[index].key}, to {pair[1 - index].key}"
        )
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


def named(verdict: str, count: int) -> int | None:
    """Returns the index of the candidate that a verdict names, from 0; None if it names none of the `count`.

    The last choice counts: `I choose candidate 2`, `the best candidate is 2`, or a verdict that is the number alone.

    Example:
        >>> named("Candidate 1 adds wrongly. I choose candidate 3.", 4), named("I choose candidate 5.", 4)
        (2, None)
    """
    bare = _BARE.fullmatch(verdict)
    numbers = [bare[1]] if bare else _STATED.findall(verdict)
    return int(numbers[-1]) - 1 if numbers and 1 <= int(numbers[-1]) <= count else None


def ballot(messages: tuple[Message, ...], task: str, texts: Sequence[str], before: str = "") -> Prompt:
    """Returns a prompt that shows all candidates and asks for the number of the best one.

    Candidates have numbers because the options of a question have letters.

    Args:
        messages: The turns of the question.
        task: What the judge decides by, one sentence.
        texts: The candidates.
        before: Text between the question and the candidates.
    """
    shown = "".join(f"\n\nCandidate {number}:\n{text}" for number, text in enumerate(texts, start=1))
    messages = prepend(messages, f"You are a judge. {task}\n\nQuestion: ")
    return Prompt(append(messages, f"{before}{shown}\n\n{task} {_NAMING}"))


async def select(tree: SearchTree, at: Path, prompt: Prompt, candidates: Sequence[Path]) -> Path:
    """Asks the role `judge` once which of several candidates is best, at temperature 0.

    The likeliest candidate wins, and the first of equally likely ones, if the verdict names none, if the budget does
    not pay for a verdict, or if the candidates do not fit in the judge's context. A single candidate wins unjudged.

    Args:
        tree: Asks, and notes the decision at the candidates and the verdict.
        at: The node that the verdict is entered under.
        prompt: Shows the candidates in their order, see `ballot`.
        candidates: The candidates, at least one.
    """
    likeliest = max(range(len(candidates)), key=lambda index: candidates[index].logprob)
    if len(candidates) == 1:
        return candidates[0]
    index = None
    for verdict in await tree.ask(at, prompt, use="judge", role="judge", unit=BALLOT_VERDICT, temperature=0.0):
        index = named(verdict.step.text if verdict.step is not None else "", len(candidates))
        tree.note(verdict, "names none" if index is None else f"names {index + 1}")
    winner = likeliest if index is None else index
    reason = "likelihood" if index is None else "verdict"
    for place, candidate in enumerate(candidates):
        outcome = f", chosen by {reason}" if place == winner else ""
        tree.note(candidate, f"candidate {place + 1} of {len(candidates)}{outcome}")
    return candidates[winner]
