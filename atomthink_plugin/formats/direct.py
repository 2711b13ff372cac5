"""The task's own prompt, answered in one reply."""

from __future__ import annotations

from dataclasses import dataclass

from atomthink_plugin.answers import final_answer
from atomthink_plugin.api import Path, Prompt, Unit


@dataclass(frozen=True, slots=True)
class Direct:
    """The task's own turns, unchanged: what the checkpoint gives without this plugin."""

    def render(self, path: Path) -> Prompt:
        """Returns the task's own turns and its own stop strings."""
        return Prompt(path.question.messages, stops=path.question.limits.until)

    def unit(self, path: Path) -> Unit | None:
        """Returns None: the reply is one."""
        return None

    def answer(self, text: str) -> str:
        """Returns the stated final answer, else the whole reply: a direct reply is an answer."""
        return final_answer(text) or text.strip()
