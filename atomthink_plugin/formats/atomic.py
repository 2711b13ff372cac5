"""AtomThink's published template, one user turn per step.

Source: AtomThink (arXiv 2411.11930), the template of its atomic-step fine-tuning data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from atomthink_plugin.answers import final_answer
from atomthink_plugin.api import Path, Prompt, Unit
from atomthink_plugin.formats.parts import append, prepend
from atomthink_plugin.formats.steps import ATOMIC_STEP, SEPARATOR, step_stops

ATOMIC_INSTRUCTION: Final = (
    "Your task is to predict the next step of reasoning or calculation from the question, the image and the "
    "steps above. Write one small atomic step only, starting with its number. If the steps above already settle "
    'the answer, write "To sum up, the final answer is: X." as the step.'
)


@dataclass(frozen=True, slots=True)
class Atomic:
    """The turn holds the question and the steps so far. Every server can answer it."""

    def render(self, path: Path) -> Prompt:
        """Returns one user turn: question, historical reasoning steps, the task of predicting the next."""
        history = SEPARATOR.join(step.text for step in path.steps)
        head = "THE GIVEN QUESTION:\n"
        tail = f"\n\nHISTORICAL REASONING STEPS:\n{history}\n\n{ATOMIC_INSTRUCTION}"
        return Prompt(append(prepend(path.question.messages, head), tail), stops=step_stops(path))

    def unit(self, path: Path) -> Unit | None:
        """Returns an atomic step."""
        return ATOMIC_STEP

    def answer(self, text: str) -> str | None:
        """Returns the final answer if the step concludes."""
        return final_answer(text)
