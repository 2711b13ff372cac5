"""The best search and number of candidates for a token budget, with intervals.

The choice is made on one half of the questions and reported on the other half, which avoids a selection bias.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final

from atomthink_plugin.accuracy_stats import mean_wilson
from atomthink_plugin.answers import group
from atomthink_plugin.report.candidates import SampledQuestion
from atomthink_plugin.report.replay import PASS, SelectionMethod
from atomthink_plugin.report.scaling_curve import CurvePoint

DIFFICULTIES: Final = ("level", "difficulty", "calculations")
"""Groupings that state a difficulty."""

MIN_QUESTIONS: Final = 10
"""The least number of questions in each half of a part."""


@dataclass(frozen=True, slots=True)
class BudgetChoice:
    """The best use of a token budget.

    Attributes:
        part: The questions: `all` or a difficulty.
        budget: Policy tokens per question of the part.
        method: The chosen method.
        n: The chosen number of candidates.
        tokens: Policy tokens per question that this takes.
        chosen_on: Number of questions that the choice was made on.
        reported_on: Number of questions that the accuracy is reported on.
        accuracy: Accuracy on these, with its 95 % interval.
        overall: Accuracy on these of the choice for all questions together within the same budget.
    """

    part: str
    budget: float
    method: SelectionMethod
    n: int
    tokens: float
    chosen_on: int
    reported_on: int
    accuracy: tuple[float, float, float]
    overall: float


Part = tuple[str, list[int]]
"""A part of the questions: its name and their indices."""


def best_choices(
    questions: Sequence[SampledQuestion], points: Sequence[CurvePoint], parts: Sequence[Part]
) -> list[BudgetChoice]:
    """Returns the best choice within the tokens of each size, for all questions and for each part of them.

    Args:
        questions: All questions.
        points: The methods and sizes to choose from, with a value for each question.
        parts: Parts of the questions. Parts that are too small to be halved are skipped.
    """
    usable = [point for point in points if point.method != PASS]
    halves = [_half(one) for one in questions]
    whole: Part = ("all", list(range(len(questions))))
    found = []
    for part, members in (whole, *parts):
        choosing, reporting = [i for i in members if not halves[i]], [i for i in members if halves[i]]
        if min(len(choosing), len(reporting)) < MIN_QUESTIONS:
            continue
        for budget in sorted({point.tokens for point in usable}):
            within = [point for point in usable if _tokens(point, members) <= budget]
            if not within:
                continue
            choice = _choose(within, choosing)
            general = _choose(within, [i for i in whole[1] if not halves[i]])
            found.append(
                BudgetChoice(
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


def agreement(one: SampledQuestion) -> float:
    """Returns the share of candidates with the most frequent answer. It measures how easy the question is."""
    answers = [candidate.answer for candidate in one.candidates if candidate.answer is not None]
    return max(map(len, group(answers)), default=0) / max(len(one.candidates), 1)


def agreement_parts(questions: Sequence[SampledQuestion]) -> list[Part]:
    """Returns the questions in thirds by agreement, the hardest first.

    Candidates that agree are often right together. Choices for the thirds must therefore use other candidates.
    """
    shares = [agreement(one) for one in questions]
    ranked = sorted(shares)
    low, high = ranked[len(ranked) // 3], ranked[2 * len(ranked) // 3]
    return [
        (f"agreement below {low:.0%}", [i for i, share in enumerate(shares) if share < low]),
        (f"agreement {low:.0%} to {high:.0%}", [i for i, share in enumerate(shares) if low <= share < high]),
        (f"agreement {high:.0%} or more", [i for i, share in enumerate(shares) if share >= high]),
    ]


def difficulty_parts(questions: Sequence[SampledQuestion]) -> list[Part]:
    """Returns the questions by the values of each grouping that states a difficulty."""
    parts: list[Part] = []
    for grouping in DIFFICULTIES:
        values: dict[str, list[int]] = {}
        for i, one in enumerate(questions):
            for value in one.question.groups.get(grouping, ()):
                values.setdefault(value, []).append(i)
        parts += [(f"{grouping} {value}", values[value]) for value in sorted(values)]
    return parts


def _tokens(point: CurvePoint, members: Sequence[int]) -> float:
    return fmean(point.spent[i] for i in members) if members else 0.0


def _choose(points: Sequence[CurvePoint], on: Sequence[int]) -> CurvePoint:
    """Returns the most accurate point. Ties go to fewer candidates, then to methods without scores."""
    return max(points, key=lambda point: (fmean(point.shares[i] for i in on), -point.n, not point.method.scored))


def _half(one: SampledQuestion) -> bool:
    """Returns the half of a question, from its id, so that all runs of the same questions are divided equally."""
    return bool(hashlib.blake2b(repr(one.question.id).encode(), digest_size=1).digest()[0] % 2)
