"""Judges that read the numbered candidates of a prompt and name one."""

from __future__ import annotations

import re
from collections.abc import Callable

from atomthink_plugin.api import Prompt
from tests.searches.scripted_replies import ScriptedReplies


def text_of(prompt: Prompt) -> str:
    """All text of a prompt, without the beginning of the reply."""
    return "".join(part for turn in prompt.messages for part in turn.parts if isinstance(part, str))


def candidates_in(prompt: Prompt) -> list[str]:
    """The candidates that a prompt shows, in their order; empty for other prompts."""
    _, *shown = re.split(r"\n\nCandidate \d+:\n", text_of(prompt))
    return [*shown[:-1], shown[-1].rpartition("\n\n")[0]] if shown else []


def judge(worth: Callable[[str], float]) -> ScriptedReplies:
    """An exact judge: it names the first of the candidates that are worth most."""

    def name(prompt: Prompt, index: int, seed: int) -> str:
        shown = candidates_in(prompt)
        return f"Candidate 1 is here. I choose candidate {shown.index(max(shown, key=worth)) + 1}."

    return ScriptedReplies(name)


def mute(verdict: str = "All of them are fine.") -> ScriptedReplies:
    """A judge that names nothing."""
    return ScriptedReplies(lambda prompt, index, seed: verdict)
