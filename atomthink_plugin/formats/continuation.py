"""Atomic steps that accumulate in the assistant's turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from atomthink_plugin.answers import final_answer
from atomthink_plugin.api import Path, Prompt, Unit
from atomthink_plugin.formats.parts import append
from atomthink_plugin.formats.steps import ATOMIC_STEP, SEPARATOR, step_stops

CONTINUE_INSTRUCTION: Final = (
    "Solve the question in small steps, one step per paragraph: each step is a single reading, deduction or "
    'calculation and starts with "Step k:". End with "Step n: To sum up, the final answer is: X."'
)


@dataclass(frozen=True, slots=True)
class Continue:
    """The KV cache of every prefix can be reused. A server has to continue the assistant's turn, as vLLM's does.

    Attributes:
        instruction: Appended to the task's last turn, on a line of its own.
    """

    instruction: str = CONTINUE_INSTRUCTION

    def render(self, path: Path) -> Prompt:
        """Returns the task's turns, the instruction, and the steps so far as the reply's beginning."""
        begun = tuple(step.text + SEPARATOR for step in path.steps)
        return Prompt(append(path.question.messages, "\n" + self.instruction), begun, step_stops(path))

    def unit(self, path: Path) -> Unit | None:
        """Returns an atomic step."""
        return ATOMIC_STEP

    def answer(self, text: str) -> str | None:
        """Returns the final answer if the step concludes."""
        return final_answer(text)
