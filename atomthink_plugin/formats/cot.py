"""Zero-shot chain of thought in one reply.

Source: Kojima et al., arXiv 2205.11916.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from atomthink_plugin.answers import final_answer
from atomthink_plugin.api import Path, Prompt, Unit
from atomthink_plugin.formats.parts import append

COT_INSTRUCTION: Final = 'Think step by step, then finish with "The final answer is: X."'


@dataclass(frozen=True, slots=True)
class Cot:
    """The task's own turns and one instruction, answered in one reply.

    Attributes:
        instruction: Appended to the task's last turn.
    """

    instruction: str = COT_INSTRUCTION

    def render(self, path: Path) -> Prompt:
        """Returns the task's turns with the instruction after the last user turn."""
        return Prompt(append(path.question.messages, "\n" + self.instruction))

    def unit(self, path: Path) -> Unit | None:
        """Returns None: the reply is one."""
        return None

    def answer(self, text: str) -> str:
        """Returns the stated final answer, else the whole reply."""
        return final_answer(text) or text.strip()
