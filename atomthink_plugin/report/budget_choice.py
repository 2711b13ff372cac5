"""The search and the number of candidates that use a token budget best, with intervals.

The choice is made on one half of the questions and reported on the other, so that it is not biased.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final

from atomthink_plugin.accuracy_stats import mean_wilson
from atomthink_plugin.answers import group
from atomthink_plugin.report.candidates import Sampled
from atomthink_plugin.report.replay import PASS, Method
from atomthink_plugin.report.scaling_curve import Point

KNOWN: Final = ("level", "difficulty", "calculations")
"""Groupings that are a difficulty."""

LEAST: Final = 10
"""Questions that each half of a part needs for a choice."""


@dataclass(frozen=True, slots=True)
class Best:
    """The best use of a budget.

    Attributes:
        part: Which questions: `all`, or a difficulty.
        budget: Policy tokens per question of that part.
        method: What is chosen.
        n: How many candidates.
        tokens: What that takes of the policy, per question of the part.
        chosen_on: Questions it was chosen on.
        reported_on: The others.
        accuracy: On those, with its 95 % interval.
        overall: Accuracy, on the same, of what would be chosen within that budget by all questions together.
    """

    part: str
    budget: float
    method: Method
    n: int
    tokens: float
    chosen_on: int
    reported_on: int
    accuracy: tuple[float, float, float]
    overall: float


Part = tuple[str, list[int]]
"""A part of the questions: its name, and which."""


def best(questions: Sequence[Sampled], points: Sequence[Point], parts: Sequence[Part]) -> list[Best]:
    """Returns the best choice within the tokens of each size, for all questions and then for each part of them.

    Args:
        questions: All.
        points: The methods and sizes to choose from, with a value for each question.
        parts: Parts of them. Those too small to be halved are left out.
    """
    usable = [point for point in points if point.method != PASS]
    halves = [_half(one) for one in questions]
    whole: Part = ("all", list(range(len(questions))))
    found = []
    for part, members in (whole, *parts):
        choosing, reporting = [i for i in members if not halves[i]], [i for i in members if halves[i]]
        if min(len(choosing), len(reporting)) < LEAST:
            continue
        for budget in sorted({point.tokens for point in usable}):
            within = [point for point in usable if _tokens(point, members) <= budget]
            if not within:
                continue
            choice = _choose(within, choosing)
            general = _choose(within, [i for i in whole[1] if not halves[i]])
            found.append(
                Best(
                    part=part,
                    budget=budget,
                    method=choice.method,
                    n=choice.n,
                    tokens=_tokens(choice, members),
                    chosen_on=len(choosing),
                    reported_on=len(reporting),
                    accuracy=mean_wilson([choice.shares[i] for i in reporting]),
                    overall=fmean(general.shares[i] for i in reporting),
                )
            )
    return found


def agreement(one: Sampled) -> float:
    """Returns the share of all candidates that give the most frequent answer: a measure of ease."""
    answers = [candidate.answer for candidate in one.candidates if candidate.answer is not None]
    return max(map(len, group(answers)), default=0) / max(len(one.candidates), 1)


def thirds(questions: Sequence[Sampled]) -> list[Part]:
    """Returns the questions in thirds by agreement, the hardest first.

    Candidates that agree are often right together: what is chosen for the thirds and reported of them has to come
    from other candidates than these.
    """
    shares = [agreement(one) for one in questions]
    ranked = sorted(shares)
    low, high = ranked[len(ranked) // 3], ranked[2 * len(ranked) // 3]
    return [
        (f"agreement below {low:.0%}", [i for i, share in enumerate(shares) if share < low]),
        (f"agreement {low:.0%} to {high:.0%}", [i for i, share in enumerate(shares) if low <= share < high]),
        (f"agreement {high:.0%} or more", [i for i, share in enumerate(shares) if share >= high]),
    ]


def known(questions: Sequence[Sampled]) -> list[Part]:
    """Returns the questions by the values of each grouping of the task that is a difficulty."""
    parts: list[Part] = []
    for grouping in KNOWN:
        values: dict[str, list[int]] = {}
        for i, one in enumerate(questions):
            for value in one.question.groups.get(grouping, ()):
                values.setdefault(value, []).append(i)
        parts += [(f"{grouping} {value}", values[value]) for value in sorted(values)]
    return parts


def _tokens(point: Point, members: Sequence[int]) -> float:
    return fmean(point.spent[i] for i in members) if members else 0.0


def _choose(points: Sequence[Point], on: Sequence[int]) -> Point:
    """The most accurate; among equals the one with fewest candidates, then the one that scores nothing."""
    return max(points, key=lambda point: (fmean(point.shares[i] for i in on), -point.n, not point.method.scored))


def _half(one: Sampled) -> bool:
    """Which half a question is in: by its name, so that runs of the same questions divide them alike."""
    return bool(hashlib.blake2b(repr(one.question.id).encode(), digest_size=1).digest()[0] % 2)
