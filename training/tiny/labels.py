"""Exact step labels: each step is judged alone, against the figure and the values stated before it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

from atomthink_plugin.tasks.demo.questions import DemoQuestion, stated_value

CORRUPTED: Final = 0.35


def verdicts(question: DemoQuestion, steps: Sequence[str]) -> list[bool]:
    """Returns whether each step is right, given what the steps before it stated.

    A wrong reading does not make the calculation with it wrong. After a step that states no number nothing
    can be judged, so the rest counts as wrong.
    """
    right: list[bool] = []
    stated: list[int] = []
    length = len(question.plan())
    for index, step in enumerate(steps):
        value = stated_value(step)
        if value is None or index >= length:
            break
        if question.is_perimeter and question.plan()[index].verb == "read":
            right.append(_reads_a_new_side(question, steps, index))
        else:
            right.append(step == question.expected_step(index, stated))
        stated.append(value)
    return right + [False] * (len(steps) - len(right))


def _reads_a_new_side(question: DemoQuestion, steps: Sequence[str], index: int) -> bool:
    """Whether a step reads a side of a perimeter rightly: in any order, each side once."""
    said = [step.partition(": ")[2] for step in steps[: index + 1]]
    readings = [f"Read {name} = {value}." for name, value in question.figure.items]
    read_before = [text.partition(" = ")[0] for text in said[:-1]]
    is_new = said[-1].partition(" = ")[0] not in read_before
    return steps[index] == f"Step {index + 1}: {said[-1]}" and said[-1] in readings and is_new


def corrupted_steps(question: DemoQuestion, rng: random.Random) -> list[str]:
    """Returns a gold chain in which steps state wrong numbers; later steps go on from what was stated."""
    steps: list[str] = []
    stated: list[int] = []
    for index in range(len(question.plan())):
        step = question.expected_step(index, stated)
        head, _, number = step.removesuffix(".").rpartition(" ")
        value = int(number)
        if rng.random() < CORRUPTED:
            value = _wrong_number(value, rng)
        steps.append(f"{head} {value}.")
        stated.append(value)
    return steps


def _wrong_number(value: int, rng: random.Random) -> int:
    """Returns a number that a slip may give instead of `value`."""
    while True:
        digits = str(abs(value))
        place = rng.randrange(len(digits))
        replaced = digits[:place] + str(rng.randrange(10)) + digits[place + 1 :]
        slips = (
            value + rng.choice((-1, 1)),
            value + rng.choice((-10, 10)),
            value + rng.choice((-20, -2, 2, 20)),
            int(digits[::-1]),
            int(replaced),
            rng.randint(0, 2 * max(value, 10)),
        )
        wrong = rng.choice(slips)
        if wrong != value and wrong >= 0:
            return wrong
