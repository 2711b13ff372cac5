"""Splits the text of a candidate into steps, if its file has no steps."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from atomthink_plugin.rollouts.rollout_set import RolloutSet
from atomthink_plugin.scorers.prm_profile import Split

DEFAULT_SPLIT: Final[Split] = "blank_line"
"""How texts are split if neither the user nor the PRM's authors say."""

_NUMBERED: Final = re.compile(r"\n(?=[ \t#>*_-]{0,9}step[ \t]{0,9}\d)", re.IGNORECASE)

_SPLITS: Final[Mapping[Split, Callable[[str], list[str]]]] = {
    "blank_line": re.compile(r"\n[ \t\r]*\n").split,
    "line": str.splitlines,
    "step_number": _NUMBERED.split,
    "none": lambda text: [text],
}


def split_text(text: str, split: Split) -> tuple[str, ...]:
    """Returns the steps of a text without blanks around them; empty pieces are no steps.

    Args:
        text: The text.
        split: Where a step ends. `blank_line`: at a blank line. `line`: at the end of a line. `step_number`: before a
            line that begins with `Step 2`, with or without Markdown. `none`: the whole text is one step.
    """
    return tuple(piece.strip() for piece in _SPLITS[split](text) if piece.strip())


def with_steps(asked: RolloutSet, split: Split) -> RolloutSet:
    """Returns a question whose candidates all have steps: those of the file, else those of the text."""
    candidates = (
        one if one.steps is not None else replace(one, steps=split_text(one.text, split)) for one in asked.candidates
    )
    return replace(asked, candidates=tuple(candidates))
