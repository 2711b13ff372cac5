"""Insight-V's reasoning between thought tags, then the answer.

A reply is `<thoughts> ... </thoughts>`, a blank line and `The final answer is: ...`. The thoughts are one unit, however
many paragraphs they have. A search that needs the reasoning alone, such as `reason_summarise`, samples this unit only.

Source: Insight-V (arXiv 2411.14432) and its inference code: a reasoning agent is asked to reason step by step and to
write only the reasoning, between the tags, in at most 1024 tokens.

Different from the published code: the prompt ends with the start tag, so that a model that was not trained on the tags
writes thoughts, and with `The final answer is:` after them. Insight-V's reasoning agent states no answer of its own; a
second model gives it. As there, thoughts that end without the end tag are used as they are: after the model's end of
sequence, or at the token limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from atomthink_plugin.answers import final_answer
from atomthink_plugin.api import Count, Path, Prompt, Unit
from atomthink_plugin.formats.parts import append
from atomthink_plugin.formats.steps import SEPARATOR

THOUGHTS: Final = "thoughts"
"""Name of the unit that holds all reasoning."""

START: Final = "<thoughts>"
END: Final = "</thoughts>"

THOUGHTS_INSTRUCTION: Final = (
    "Reason about the question step by step. Write only the reasoning, from the facts in the image to the result, "
    f"between {START} and {END}."
)

_LEAD: Final = "The final answer is:"


def bare(thoughts: str) -> str:
    """Returns thoughts without their tags; other texts without the blanks around them."""
    return thoughts.strip().removeprefix(START).removesuffix(END).strip()


@dataclass(frozen=True, slots=True)
class Thoughts:
    """Thoughts and answer accumulate in the assistant's turn, so that a server has to continue it.

    Attributes:
        instruction: Appended to the task's last turn, on a line of its own.
        thoughts_tokens: Limit of the thoughts, in tokens. At the limit they are cut, and the answer follows.
    """

    instruction: str = THOUGHTS_INSTRUCTION
    thoughts_tokens: Count = 1024

    def render(self, path: Path) -> Prompt:
        """Returns the task's turns, the instruction, and the reply up to where the thoughts or the answer begin."""
        messages = append(path.question.messages, "\n" + self.instruction)
        if path.depth == 0:
            return Prompt(messages, (START,), (END,))
        first, *others = (step.text for step in path.steps)
        # The start tag is a piece of its own, so that the first prompt is a prefix of this one.
        tag = (START,) if first.startswith(START) else ()
        thoughts = first.removeprefix(START)
        if tag and not thoughts.endswith(END):
            thoughts += f" {END}"
        return Prompt(messages, (*tag, *(text + SEPARATOR for text in (thoughts, *others)), _LEAD), (SEPARATOR,))

    def unit(self, path: Path) -> Unit | None:
        """Returns the thoughts at the beginning, else the answer."""
        if path.depth > 0:
            return Unit("answer", opening=f"{_LEAD} ", cut=_first_paragraph, check=_check_answer)
        return Unit(
            THOUGHTS,
            tokens=self.thoughts_tokens,
            partial=True,
            opening=f"{START} ",
            closing=f" {END}",
            cut=_through_end,
            check=_check_thoughts,
        )

    def answer(self, text: str) -> str | None:
        """Returns the answer that is stated after the thoughts."""
        _, end, rest = text.rpartition(END)
        return None if not end and rest.startswith(START) else final_answer(rest)


def _through_end(text: str) -> str:
    """Returns the text up to the end tag: policies without stop strings continue after it."""
    inner, found, _ = text.partition(END)
    return f"{inner.rstrip()} {END}" if found else text


def _first_paragraph(text: str) -> str:
    return text.partition(SEPARATOR)[0].rstrip()


def _check_thoughts(text: str, history: Sequence[str]) -> str | None:
    return None if bare(text) else "empty"


def _check_answer(text: str, history: Sequence[str]) -> str | None:
    return None if final_answer(text) else "empty"
