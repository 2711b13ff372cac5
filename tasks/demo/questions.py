"""The questions of the demo task: figures, question texts, and gold steps.

A question is a figure with named values and a calculation with some of them. Its text, its answer and its gold steps
are computed from this data. A tenth of all combinations, chosen by a hash, is held out of training.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter
from typing import Any, Final, Literal

Kind = Literal["bars", "polygon", "rectangles"]
Operator = Literal["+", "-", "x"]

COLOURS: Final = ("red", "blue", "green", "orange", "purple", "teal")
HINT: Final = "Answer with a single number."
LARGEST: Final = 300  # of the values along a chain, a perimeter, or one area
HELD_OUT_SEED: Final = 2024
DEMO_SIZE: Final = 200

_OPERATORS: Final[tuple[Operator, ...]] = ("+", "-", "x")
_SUM_OR_DIFFERENCE: Final[tuple[Operator, ...]] = ("+", "-")
_APPLY: Final[dict[str, Callable[[int, int], int]]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "x": lambda a, b: a * b,
}
_WORDS: Final[dict[str, str]] = {"+": "add", "-": "subtract", "x": "multiply by"}


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure.

    Attributes:
        kind: Bar chart, polygon with labelled sides, or two rectangles with labelled sides.
        items: Names and values in drawing order: bars from left to right, sides around the polygon,
            width and height of each rectangle.
        layout: Seed of positions, sizes and shapes, which do not affect the answer.
    """

    kind: Kind
    items: tuple[tuple[str, int], ...]
    layout: int

    @property
    def values(self) -> dict[str, int]:
        """The value of each item."""
        return dict(self.items)


@dataclass(frozen=True, slots=True)
class Action:
    """One step of a solution, before its numbers are known.

    Attributes:
        verb: `read` an item, `compute` from two earlier values, or `conclude`.
        name: The item to read.
        operator: The operation to compute.
        sources: Indices of the earlier steps whose values are used.
        constant: The second operand, if it is in the question's text.
    """

    verb: Literal["read", "compute", "conclude"]
    name: str = ""
    operator: Operator = "+"
    sources: tuple[int, ...] = ()
    constant: int | None = None


@dataclass(frozen=True, slots=True)
class DemoQuestion:
    """One question about a figure.

    Attributes:
        figure: The figure.
        operands: Names of items in the order of use. The last one may be a number instead.
        operators: The operators between the operands, applied from left to right; for rectangles, the areas first.
    """

    figure: Figure
    operands: tuple[str, ...]
    operators: tuple[Operator, ...]

    @property
    def text(self) -> str:
        """The text of the question."""
        return f"{_TEXTS[self.figure.kind](self)} {HINT}"

    @property
    def answer(self) -> int:
        """The right answer."""
        return self.gold_values()[-1]

    @property
    def steps(self) -> tuple[str, ...]:
        """The gold atomic steps."""
        stated = self.gold_values()
        return tuple(self.expected_step(index, stated) for index in range(len(stated)))

    @property
    def cot(self) -> str:
        """The gold reply of one pass: all readings, one formula, the answer."""
        read = [action.name for action in self.plan() if action.verb == "read"]
        values = self.figure.values
        readings = ", ".join(f"{name} = {values[name]}" for name in read)
        return f"{readings}. {self._formula()} = {self.answer}. The final answer is: {self.answer}."

    @property
    def direct(self) -> str:
        """The gold reply without thinking."""
        return f"{self.answer}."

    @property
    def combination(self) -> tuple[object, ...]:
        """The calculation with its values. Layout, drawing order and other items are not part of it."""
        values = self.figure.values
        asked = [(operand, values.get(operand)) for operand in self.operands]
        if self.is_perimeter:
            asked = [*sorted(asked[:-1], key=itemgetter(0)), asked[-1]]
        return (self.figure.kind, tuple(asked), self.operators)

    @property
    def is_perimeter(self) -> bool:
        """Whether the question asks for a multiple of a polygon's perimeter. The order of its sides is arbitrary."""
        return self.operands[-1].isdigit()

    @property
    def held_out(self) -> bool:
        """Whether this combination is kept out of training."""
        return hashlib.blake2b(json.dumps(self.combination).encode()).digest()[0] % 10 == 0

    def plan(self) -> tuple[Action, ...]:
        """Returns the actions of the solution: all readings, then the calculations, then the conclusion."""
        names = [operand for operand in self.operands if not operand.isdigit()]
        actions = [Action("read", name=name) for name in names]
        if self.figure.kind == "rectangles":
            first, last = len(actions), len(actions) + 1
            actions += [Action("compute", operator="x", sources=pair) for pair in ((0, 1), (2, 3))]
            actions.append(Action("compute", operator=self.operators[1], sources=(first, last)))
        else:
            result = 0
            for index, operator in enumerate(self.operators, start=1):
                operand = self.operands[index]
                if operand.isdigit():
                    actions.append(Action("compute", "", operator, (result,), int(operand)))
                else:
                    actions.append(Action("compute", "", operator, (result, index)))
                result = len(actions) - 1
        return (*actions, Action("conclude", sources=(len(actions) - 1,)))

    def expected_step(self, index: int, stated: Sequence[int]) -> str:
        """Returns the right step `index` after steps that stated the values `stated[:index]`.

        A calculation uses the values as stated, even if they are wrong.
        """
        action = self.plan()[index]
        value = self.expected_value(action, stated)
        label = f"Step {index + 1}:"
        if action.verb == "read":
            return f"{label} Read {action.name} = {value}."
        if action.verb == "conclude":
            return f"{label} To sum up, the final answer is: {value}."
        left, right = _inputs(action, stated)
        return f"{label} Compute {left} {action.operator} {right} = {value}."

    def expected_value(self, action: Action, stated: Sequence[int]) -> int:
        """Returns the value that `action` should state after the values `stated`."""
        if action.verb == "read":
            return self.figure.values[action.name]
        if action.verb == "conclude":
            return stated[action.sources[0]]
        return calculate(action.operator, *_inputs(action, stated))

    def gold_values(self) -> list[int]:
        """Returns the true value that each step states."""
        stated: list[int] = []
        for action in self.plan():
            stated.append(self.expected_value(action, stated))
        return stated

    def _formula(self) -> str:
        values = self.figure.values
        numbers = [operand if operand.isdigit() else str(values[operand]) for operand in self.operands]
        if self.figure.kind == "rectangles":
            return f"({numbers[0]} x {numbers[1]}) {self.operators[1]} ({numbers[2]} x {numbers[3]})"
        formula = numbers[0]
        for position, (operator, number) in enumerate(zip(self.operators, numbers[1:], strict=True)):
            formula = f"({formula}) {operator} {number}" if position else f"{formula} {operator} {number}"
        return formula

    def to_json(self) -> dict[str, Any]:
        """Returns the question as plain data. Text, answer and steps are included for readers."""
        return {
            "text": self.text,
            "answer": str(self.answer),
            "steps": self.steps,
            "cot": self.cot,
            "figure": {
                "kind": self.figure.kind,
                "names": [name for name, _ in self.figure.items],
                "values": [value for _, value in self.figure.items],
                "layout": self.figure.layout,
            },
            "operands": self.operands,
            "operators": self.operators,
        }

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> DemoQuestion:
        """Returns the question of a record by `to_json`. JSON lists are accepted as tuples."""
        figure = record["figure"]
        items = tuple(zip(figure["names"], figure["values"], strict=True))
        drawn = Figure(figure["kind"], items, figure["layout"])
        return cls(drawn, tuple(record["operands"]), tuple(record["operators"]))


def calculate(operator: Operator, left: int, right: int) -> int:
    """Returns the result of an operation."""
    return _APPLY[operator](left, right)


def stated_value(step: str) -> int | None:
    """Returns the number at the end of a step, None if there is none."""
    match = re.search(r"(-?\d{1,9})\.$", step)
    return int(match.group(1)) if match else None


def _inputs(action: Action, stated: Sequence[int]) -> tuple[int, int]:
    left = stated[action.sources[0]]
    right = action.constant if action.constant is not None else stated[action.sources[1]]
    return left, right


def _chain_text(question: DemoQuestion) -> str:
    parts = [f"Start with {question.operands[0]}"]
    parts += [f"{_WORDS[o]} {n}" for o, n in zip(question.operators, question.operands[1:], strict=True)]
    return ", ".join(parts) + "."


def _polygon_text(question: DemoQuestion) -> str:
    if question.is_perimeter:
        return f"Find the perimeter of the polygon and multiply it by {question.operands[-1]}."
    return _chain_text(question)


def _rectangles_text(question: DemoQuestion) -> str:
    first, second = question.operands[0].split()[0], question.operands[2].split()[0]
    word = {"+": "plus", "-": "minus"}[question.operators[1]]
    return f"Find the area of the {first} rectangle {word} the area of the {second} rectangle."


_TEXTS: Final[dict[Kind, Callable[[DemoQuestion], str]]] = {
    "bars": _chain_text,
    "polygon": _polygon_text,
    "rectangles": _rectangles_text,
}


def draw_figure(rng: random.Random) -> Figure:
    """Returns a random figure."""
    kinds: tuple[Kind, ...] = ("bars", "bars", "polygon", "polygon", "rectangles")
    kind = rng.choice(kinds)
    layout = rng.getrandbits(32)
    if kind == "rectangles":
        names = [f"{c} {side}" for c in rng.sample(COLOURS, 2) for side in ("width", "height")]
        return Figure("rectangles", tuple((name, rng.randint(2, 9)) for name in names), layout)
    names = rng.sample(COLOURS, rng.randint(4, 5))
    return Figure(kind, tuple((name, rng.randint(2, 9)) for name in names), layout)


def draw_question(figure: Figure, rng: random.Random) -> DemoQuestion:
    """Returns a random question about `figure` whose values stay between 0 and `LARGEST`."""
    while True:
        question = _any_question(figure, rng)
        largest = 2 * LARGEST if figure.kind == "rectangles" else LARGEST
        if all(0 <= value <= largest for value in question.gold_values()):
            return question


def _any_question(figure: Figure, rng: random.Random) -> DemoQuestion:
    names = [name for name, _ in figure.items]
    if figure.kind == "rectangles":
        pairs = [names[:2], names[2:]]
        rng.shuffle(pairs)
        between: Operator = rng.choice(_SUM_OR_DIFFERENCE)
        return DemoQuestion(figure, (*pairs[0], *pairs[1]), ("x", between, "x"))
    if figure.kind == "polygon" and rng.random() < 0.3:
        added: list[Operator] = ["+" for _ in names[1:]]
        return DemoQuestion(figure, (*names, str(rng.randint(2, 6))), (*added, "x"))
    operands = rng.sample(names, rng.randint(3, len(names)))
    drawn: list[Operator] = [rng.choice(_OPERATORS) for _ in operands[1:]]
    drawn[rng.randrange(len(drawn))] = "x"
    return DemoQuestion(figure, tuple(operands), tuple(drawn))


def training_stream(seed: int) -> Iterator[DemoQuestion]:
    """Yields an endless stream of questions for training. None of them is held out."""
    rng = random.Random(f"training {seed}")
    while True:
        question = draw_question(draw_figure(rng), rng)
        if not question.held_out:
            yield question


def held_out(count: int, seed: int = HELD_OUT_SEED) -> list[DemoQuestion]:
    """Returns `count` held-out questions. With the same seed, more questions begin with the same ones."""
    return list(islice(_held_out_stream(seed), count))


def _held_out_stream(seed: int) -> Iterator[DemoQuestion]:
    rng = random.Random(f"held out {seed}")
    while True:
        question = draw_question(draw_figure(rng), rng)
        if question.held_out:
            yield question


def main() -> None:
    """Prints the demo task's questions, one JSON object per line."""
    for question in held_out(DEMO_SIZE):
        print(json.dumps(question.to_json()))


if __name__ == "__main__":
    main()
