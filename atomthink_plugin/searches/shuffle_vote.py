"""Voting over chains that see the options of a question in different orders.

A model that prefers an option for its place, not for what it says, spreads its votes over all options.

Source: Medprompt (Nori et al., arXiv 2311.16452): 5 chains, each with the options in another order, whose answers are
mapped back, and a majority vote.

Different from the published code: its orders begin with the original one and are not balanced, and it has no more than
4 of them for 2 options. Here the orders are the rows of a Latin square: after as many chains as there are options, each
option has been at each place once. A question whose options refer to each other ("Both A and B", "None of the above")
keeps its order, and so does one whose options are not found in its text, each after its letter.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from string import ascii_uppercase

from atomthink_plugin.api import Choice, Count, Path, Question, Search, SearchTree
from atomthink_plugin.searches.parts.options import (
    in_original_order,
    latin_square,
    letter_of,
    refer_to_positions,
    reordered,
)
from atomthink_plugin.searches.parts.voting import elect


def shuffle_vote(n: Count = 5) -> Search:
    """Samples `n` chains with the options in balanced orders; the option that most of them choose wins.

    The first chain sees the original order. For free-form questions this is `majority`.

    Args:
        n: Chains sampled. Multiples of the number of options are balanced exactly.
    """

    async def search(tree: SearchTree) -> Choice:
        variants = _variants(tree.question)
        draws = await _draws(tree, [tree.begin(variant) for _, variant in variants], n)
        orders = [variants[index % len(variants)][0] for index in range(n)]
        answers = [_original(path, order) for path, order in zip(draws, orders, strict=True)]
        votes = answers
        if len(variants) > 1:  # in a thread: comparing an answer with the options' texts may be slow
            votes = await asyncio.to_thread(_letters, answers, tree.question.choices)
        for path, order, vote in zip(draws, orders, votes, strict=True):
            if path.depth > tree.root.depth:
                tree.note(path, _note(order, vote) if len(variants) > 1 else "order kept")
        voters = [replace(path, answer=vote) for path, vote in zip(draws, votes, strict=True)]
        elected = await elect(tree, voters, [1.0] * n)
        winner = next(index for index, voter in enumerate(voters) if voter is elected.path)
        return Choice(draws[winner], elected.value, elected.stopped, answers[winner])

    return search


def _variants(question: Question) -> list[tuple[tuple[int, ...], Question]]:
    """Returns the question in each order, the original one first; only that one if the order has to be kept."""
    orders = latin_square(len(question.choices))
    kept = [(tuple(range(len(question.choices))), question)]
    if not 2 <= len(orders) <= len(ascii_uppercase) or question.history or refer_to_positions(question.choices):
        return kept
    found = [(order, reordered(question, order)) for order in orders]
    return [(order, variant) for order, variant in found if variant is not None] or kept


async def _draws(tree: SearchTree, roots: Sequence[Path], n: int) -> list[Path]:
    """Returns one chain from each root in turn.

    One after the other: with a budget, chains at the same time would depend on what the others have spent so far.
    """
    drawn: Counter[str] = Counter()  # by key: two orders of equal texts are one question
    paths: list[Path] = []
    for index in range(n):
        root = roots[index % len(roots)]
        paths += await tree.rollouts(1, start=root, first=drawn[root.key])
        drawn[root.key] += 1
    return paths


def _original(path: Path, order: Sequence[int]) -> str | None:
    """Returns the path's answer with the letter that its option has in the original order."""
    return None if path.answer is None else in_original_order(path.answer, order)


def _letters(answers: Sequence[str | None], choices: Sequence[str]) -> list[str | None]:
    return [None if answer is None else letter_of(answer, choices) for answer in answers]


def _note(order: Sequence[int], vote: str | None) -> str:
    """Returns the original letters in the order that the chain saw, and the option that it votes for."""
    seen = "".join(ascii_uppercase[option] for option in order)
    return f"order {seen}, vote {vote}" if vote is not None and vote in seen else f"order {seen}"
