"""Solved examples before the question, around any other format."""

from __future__ import annotations

from dataclasses import dataclass

from atomthink_plugin.api import Path, Prompt, Unit


@dataclass(frozen=True, slots=True)
class FewShot:
    """Solved examples before the question, around any other format."""

    def render(self, path: Path) -> Prompt:
        """Returns the prompt."""
        raise NotImplementedError

    def unit(self, path: Path) -> Unit | None:
        """Returns the unit after `path`."""
        raise NotImplementedError

    def answer(self, text: str) -> str | None:
        """Returns the answer in `text`."""
        raise NotImplementedError
