"""Exact step labels: each step is compared with the figure and the values that earlier steps state."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

from atomthink_plugin.tasks.demo.questions import Action, DemoQuestion, calculate, stated_value

WRONG_NUMBER: Final = 0.25
OTHER_SLIP: Final = 0.07


def verdicts(question: DemoQuestion, steps: Sequence[str]) -> list[bool]:
    """Returns whether each step is right, given the values that earlier steps state.

    A calculation with a wrong reading can be right. All steps after one without a number count as wrong.
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
    """Returns whether a step reads a side of a perimeter correctly: in any order, each side once."""
    texts = [step.partition(": ")[2] for step in steps[: index + 1]]
    readings = [f"Read {name} = {value}." for name, value in question.figure.items]
    read_before = [text.partition(" = ")[0] for text in texts[:-1]]
    is_new = texts[-1].partition(" = ")[0] not in read_before
    return steps[index] == f"Step {index + 1}: {texts[-1]}" and texts[-1] in readings and is_new


def corrections(question: DemoQuestion, steps: Sequence[str], right: Sequence[bool]) -> list[str | None]:
    """Returns the correction of each wrong step, None where there are several or the right value is not known."""
    found: list[str | None] = []
    stated: list[int] = []
    plan = question.plan()
    for index, (step, verdict) in enumerate(zip(steps, right, strict=True)):
        known = len(stated) == index < len(plan)
        free = known and question.is_perimeter and plan[index].verb == "read"
        found.append(None if verdict or free or not known else question.expected_step(index, stated))
        value = stated_value(step)
        if known and value is not None:
            stated.append(value)
    return found


def slipped_steps(question: DemoQuestion, rng: random.Random) -> list[str]:
    """Returns a gold chain with errors in some steps; later steps use the values that earlier ones state.

    An error is a wrong number or, less often, another item, operand or operator, another value in the conclusion, or a
    side that is read twice.
    """
    steps: list[str] = []
    stated: list[int] = []
    for index, action in enumerate(question.plan()):
        step = question.expected_step(index, stated)
        chance = rng.random()
        if chance < WRONG_NUMBER:
            step = with_number(step, wrong_number(_number(step), rng))
        elif chance < WRONG_NUMBER + OTHER_SLIP:
            step = _slip(question, action, steps, stated, step, rng)
        steps.append(step)
        stated.append(_number(step))
    return steps


def _slip(
    question: DemoQuestion, action: Action, steps: Sequence[str], stated: Sequence[int], step: str, rng: random.Random
) -> str:
    """Returns a consistent step that is not in the plan; by chance it may be the right one."""
    label = f"Step {len(steps) + 1}:"
    if action.verb == "conclude":
        return with_number(step, rng.choice(stated))
    if action.verb == "read":
        again = question.is_perimeter and steps
        names = (
            [a.name for a in question.plan()[: len(steps)]] if again else [name for name, _ in question.figure.items]
        )
        name = rng.choice(names)
        return f"{label} Read {name} = {question.figure.values[name]}."
    sources = [stated[source] for source in action.sources]
    left, right = sources[0], sources[1] if action.constant is None else action.constant
    operator = rng.choice(("+", "-", "x")) if rng.random() < 0.2 else action.operator
    left, right = (rng.choice(stated), right) if rng.random() < 0.5 else (left, rng.choice(stated))
    value = calculate(operator, left, right)
    return f"{label} Compute {left} {operator} {right} = {value}." if 0 <= value <= 999 else step


def with_number(step: str, number: int) -> str:
    """Returns the step with another number."""
    return f"{step.removesuffix('.').rpartition(' ')[0]} {number}."


def _number(step: str) -> int:
    return int(step.removesuffix(".").rpartition(" ")[2])


def wrong_number(value: int, rng: random.Random) -> int:
    """Returns a wrong number in the place of `value`."""
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
