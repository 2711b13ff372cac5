"""Solved examples as turns before the question, around any other format.

An example is a turn of the user, which asks as the other format asks, and a turn of the assistant with the reply in
that format's layout. Where a format asks for each step in a turn of its own, an example shows the step at the place
that is asked for: a turn for each step would repeat the example's question and images as often.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise, takewhile

from atomthink_plugin.api import Example, Examples, Format, Message, Path, Policy, Prompt, Question, Step, Unit
from atomthink_plugin.formats.parts import answer_at
from atomthink_plugin.formats.steps import SEPARATOR


@dataclass(frozen=True, slots=True)
class FewShot:
    """Another format with solved examples before each question.

    Attributes:
        form: The other format.
        examples: Digest of the examples that are chosen from.
        k: Examples before a question.
        nearest: Name of the way of choosing.
        chosen_by: Chooses them.
        shown: The examples of the question, in the order in which they are shown; empty until it is known.
    """

    form: Format
    examples: str
    k: int
    nearest: str
    chosen_by: Examples = field(repr=False, compare=False)
    shown: tuple[Example, ...] = field(default=(), repr=False, compare=False)

    def check_policy(self, policy: Policy) -> None:
        """Raises AtomThinkError if the examples cannot be chosen with this policy."""
        if (check := getattr(self.chosen_by, "check_policy", None)) is not None:
            check(policy)

    async def for_question(self, question: Question, policy: Policy) -> Format:
        """Returns the format with the examples for one question, their images in memory until it is answered."""
        chosen = await self.chosen_by.nearest(question, self.k, policy)
        return replace(self, shown=await asyncio.to_thread(_with_images, chosen))

    def render(self, path: Path) -> Prompt:
        """Returns the prompt of the other format, with the examples after the system's turns."""
        prompt = self.form.render(path)
        system = tuple(takewhile(lambda turn: turn.role == "system", prompt.messages))
        turns = (turn for example in self.shown for turn in _turns(self.form, example, path.depth))
        return replace(prompt, messages=(*system, *turns, *prompt.messages[len(system) :]))

    def unit(self, path: Path) -> Unit | None:
        """Returns the unit after `path`, that of the other format."""
        return self.form.unit(path)

    def answer(self, text: str) -> str | None:
        """Returns the final answer in `text`, as the other format reads it."""
        return self.form.answer(text)

    def answer_at(self, path: Path) -> str | None:
        """Returns the final answer if the chain ends with the last step of `path`, as the other format reads it."""
        return answer_at(self.form, path)


def _with_images(examples: Sequence[Example]) -> tuple[Example, ...]:
    return tuple(replace(example, images=tuple(example.images)) for example in examples)


def _turns(form: Format, example: Example, depth: int) -> tuple[Message, ...]:
    """Returns an example as turns, for a prompt after `depth` steps."""
    asked = Question("example", (Message("user", (*example.images, example.question)),), example.options)
    chain = [Path(asked)]
    for text in example.steps:
        chain.append(chain[-1].extend(Step(text), form.answer(text)))
    turns = form.render(chain[0]).messages
    if form.render(chain[-2]).messages == turns:  # the steps stand in the reply
        return (*turns, Message("assistant", (_joined(form, chain),)))
    at = min(depth, len(example.steps) - 1)
    return (*form.render(chain[at]).messages, Message("assistant", (example.steps[at],)))


def _joined(form: Format, chain: list[Path]) -> str:
    """Returns a chain as one reply, with the format's joints. Units without a joint are taken for steps."""
    pieces: list[str] = []
    for before, path in pairwise(chain):
        unit = form.unit(before)
        pieces += [path.steps[-1].text, (unit.joint if unit is not None else "") or SEPARATOR]
    return "".join(pieces[:-1])
