"""Prompt formats: structured state in, rendered prompt out; one renderer for training and inference.

A format turns a path (question and steps so far) into messages plus the beginning of the assistant's
turn. It never edits rendered text, so a question may contain the templates' own headers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Final, Protocol

from atomthink_plugin.answers import final_answer
from atomthink_plugin.api import Message, Path

if TYPE_CHECKING:
    from PIL.Image import Image

SEPARATOR: Final = "\n\n"
"""Between steps, as in the published training records."""

COT_INSTRUCTION: Final = 'Think step by step, then finish with "The final answer is: X."'

CONTINUE_INSTRUCTION: Final = (
    "Solve the question in small steps, one step per paragraph: each step is a single reading, deduction or "
    'calculation and starts with "Step k:". End with "Step n: To sum up, the final answer is: X."'
)

ATOMIC_INSTRUCTION: Final = (
    "Your task is to predict the next step of reasoning or calculation from the question, the image and the "
    "steps above. Write one small atomic step only, starting with its number. If the steps above already settle "
    'the answer, write "To sum up, the final answer is: X." as the step.'
)


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the policy is asked.

    Attributes:
        messages: The turns, images in their places; the last is the user's.
        prefix: Text the assistant's turn already begins with; generation continues it.
        stops: Strings that end the step; looked for after its first visible character.
    """

    messages: tuple[Message, ...]
    prefix: str = ""
    stops: tuple[str, ...] = ()


class Format(Protocol):
    """One way to ask. `stepwise` formats give one step per call, the others a whole reply."""

    @property
    def stepwise(self) -> bool:
        """Whether a reply is one step of several."""
        ...

    def render(self, path: Path) -> Prompt:
        """Returns the prompt that asks for what follows `path`."""
        ...

    def answer(self, text: str) -> str | None:
        """Returns the final answer if `text`, a step or a whole reply, states one."""
        ...


@dataclass(frozen=True, slots=True)
class Direct:
    """The task's messages unchanged: what the checkpoint gives without us."""

    stepwise: bool = False

    def render(self, path: Path) -> Prompt:
        """Returns the task's own turns and its own stop strings."""
        return Prompt(path.question.messages, stops=path.question.limits.until)

    def answer(self, text: str) -> str:
        """Returns the stated final answer, else the whole reply: a direct reply is an answer."""
        return final_answer(text) or text.strip()


@dataclass(frozen=True, slots=True)
class PerQuestion:
    """The run's format, but the task's own prompt for questions that are to be answered directly.

    Attributes:
        form: The run's format.
    """

    form: Format

    @property
    def stepwise(self) -> bool:
        """What the run's format is."""
        return self.form.stepwise

    def render(self, path: Path) -> Prompt:
        """Returns the prompt for what follows `path`, as its question asks for it."""
        return Direct().render(path) if path.question.direct else self.form.render(path)

    def answer(self, text: str) -> str | None:
        """Returns the final answer as the run's format reads it."""
        return self.form.answer(text)


@dataclass(frozen=True, slots=True)
class Cot:
    """Zero-shot chain of thought in one reply: the task's messages and one instruction."""

    instruction: str = COT_INSTRUCTION
    stepwise: bool = False

    def render(self, path: Path) -> Prompt:
        """Returns the task's turns with the instruction behind the last user turn."""
        return Prompt(_append(path.question.messages, "\n" + self.instruction))

    def answer(self, text: str) -> str:
        """Returns the stated final answer, else the whole reply."""
        return final_answer(text) or text.strip()


@dataclass(frozen=True, slots=True)
class Continue:
    """Steps accumulate in the assistant's turn, so that every prefix can be reused."""

    instruction: str = CONTINUE_INSTRUCTION
    stepwise: bool = True

    def render(self, path: Path) -> Prompt:
        """Returns the task's turns, the instruction, and the steps so far as the reply's beginning."""
        prefix = "".join(step.text + SEPARATOR for step in path.steps)
        return Prompt(_append(path.question.messages, "\n" + self.instruction), prefix, _stops(path))

    def answer(self, text: str) -> str | None:
        """Returns the final answer if the step concludes."""
        return final_answer(text)


@dataclass(frozen=True, slots=True)
class Atomic:
    """AtomThink's published template: one user turn per step, with the history inside it.

    Source: AtomThink (arXiv 2411.11930), the template of its atomic-step fine-tuning data.
    """

    stepwise: bool = True

    def render(self, path: Path) -> Prompt:
        """Returns one user turn: question, historical reasoning steps, the task of predicting the next."""
        history = SEPARATOR.join(step.text for step in path.steps)
        head = "THE GIVEN QUESTION:\n"
        tail = f"\n\nHISTORICAL REASONING STEPS:\n{history}\n\n{ATOMIC_INSTRUCTION}"
        messages = _append(_prepend(path.question.messages, head), tail)
        return Prompt(messages, stops=_stops(path))

    def answer(self, text: str) -> str | None:
        """Returns the final answer if the step concludes."""
        return final_answer(text)


def joined(parts: Sequence[str | Image]) -> list[str | Image]:
    """Returns the parts with texts that follow each other as one: others would put line breaks between them."""
    runs = groupby(parts, lambda part: isinstance(part, str))
    return [part for textual, run in runs for part in (["".join(map(str, run))] if textual else run)]


def _stops(path: Path) -> tuple[str, ...]:
    """A step ends at a blank line or where an untuned model starts the step after it."""
    return (SEPARATOR, f"\nStep {path.depth + 2}")


def _append(messages: tuple[Message, ...], text: str) -> tuple[Message, ...]:
    last = messages[-1]
    return (*messages[:-1], replace(last, parts=(*last.parts, text)))


def _prepend(messages: tuple[Message, ...], text: str) -> tuple[Message, ...]:
    """Puts `text` before the last user turn's first text, behind images that lead it."""
    last = messages[-1]
    at = next((i for i, part in enumerate(last.parts) if isinstance(part, str)), len(last.parts))
    return (*messages[:-1], replace(last, parts=(*last.parts[:at], text, *last.parts[at:])))
