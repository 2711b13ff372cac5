"""Mini-steps: a reply in pieces of a fixed number of tokens, with the thought and the answer in tags.

Source: Marco-o1 (arXiv 2411.14405): actions of 64 or 32 tokens, replies of the form `<Thought> ... </Thought>
<Output> ... </Output>`, and an instruction to think before the answer, here in other words.

Open in the paper is how a policy continues after a piece that ends inside a word. Here it continues from the sampled
token ids, so that the pieces of a chain, joined, are one reply, token for token. Servers take text, so that theirs are
so only where the pieces end between words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from atomthink_plugin.answers import final_answer
from atomthink_plugin.api import Count, Path, Prompt, Step, Unit
from atomthink_plugin.formats.parts import append
from atomthink_plugin.formats.steps import SEPARATOR

MINI_INSTRUCTION: Final = (
    "Think the problem through before you answer. Reply in two sections, each between its tags: "
    "<Thought> all of your reasoning </Thought> <Output> the final answer, in the form that the question asks for "
    "</Output>"
)

_OUTPUT: Final = re.compile(r"<Output>(.*?)(</Output>|\Z)", re.DOTALL)
_TAG: Final = re.compile(r"</?(?:Thought|Output)>")


@dataclass(frozen=True, slots=True)
class Mini:
    """The mini-steps accumulate in the assistant's turn, so that a server has to continue it.

    A chain concludes when `</Output>` closes the reply. A reply without these tags concludes when the model ends it, if
    it states a final answer. A limit of the chain in steps, `max_steps`, counts mini-steps.

    Attributes:
        instruction: Appended to the task's last turn. Pass `format_instruction=` (empty) for checkpoints that write the
            tags when they are asked with the bare question.
        mini_tokens: Tokens of a mini-step; the paper has 64 and 32.
    """

    instruction: str = MINI_INSTRUCTION
    mini_tokens: Count = 64

    def render(self, path: Path) -> Prompt:
        """Returns the task's turns, the instruction, and the reply so far by its sampled tokens."""
        messages = path.question.messages
        if self.instruction:
            messages = append(messages, "\n" + self.instruction)
        return Prompt(messages, _reply(path))

    def unit(self, path: Path) -> Unit | None:
        """Returns a mini-step; the steps of a question's history are whole paragraphs."""
        if path.depth < len(path.question.history):
            return Unit("given", joint=SEPARATOR)
        return Unit("mini", tokens=self.mini_tokens, partial=True, joint="", cut=_whole_characters, check=_check)

    def answer(self, text: str) -> str | None:
        """Returns the answer that a whole reply states."""
        return _ended(text)

    def answer_at(self, path: Path) -> str | None:
        """Returns the answer if the reply ends with the last mini-step."""
        text = _text(path)
        ended = path.step is not None and path.step.finish == "eos"
        return _closed(text) or (_ended(text) if ended else None)


def _reply(path: Path) -> tuple[str | Step, ...]:
    """Returns the reply so far, in pieces."""
    given = len(path.question.history)
    return tuple(step.text + SEPARATOR if at < given else step for at, step in enumerate(path.steps))


def _text(path: Path) -> str:
    return Prompt((), _reply(path)).prefix


def _closed(text: str) -> str | None:
    """Returns what the first output answers, if its end tag closes it."""
    output = _OUTPUT.search(text)
    return _inner(output) if output is not None and output[2] else None


def _ended(text: str) -> str | None:
    """Returns the answer of a reply that the model ended, with or without tags."""
    output = _OUTPUT.search(text)
    return (_inner(output) if output is not None else None) or final_answer(_TAG.sub("\n", text))


def _inner(output: re.Match[str]) -> str | None:
    inner = output[1].strip()
    return final_answer(inner) or inner or None


def _whole_characters(text: str) -> str:
    """Returns a sample without half a character at its end; the sample that continues it has the whole one."""
    return text.removesuffix("\ufffd")


def _check(text: str, history: Sequence[str]) -> str | None:
    """Says why a sample is no mini-step: it is empty, and the reply before it has no answer that it could end."""
    return None if text or _ended("".join(history)) else "empty"
