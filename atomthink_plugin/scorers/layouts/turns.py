"""A user turn per step, and the verdict as the assistant's reply."""

from __future__ import annotations

from collections.abc import Sequence

from atomthink_plugin.scorers.layouts.arrangement import Arrangement, AskedText, LayoutTurn, fill, step_values
from atomthink_plugin.scorers.prm_profile import TurnsLayout


def turns(layout: TurnsLayout, asked: AskedText, steps: Sequence[str]) -> Arrangement:
    """Returns the turns up to the last step; the assistant's verdict on it follows.

    All earlier verdicts are written as `history`, whatever they were.

    Args:
        layout: The profile's layout.
        asked: The question.
        steps: Texts of the steps, at least one.
    """
    said: list[LayoutTurn] = []
    if layout.system is not None:
        said.append(LayoutTurn("system", (layout.system,)))
    if layout.question is not None:
        said.append(LayoutTurn("user", fill(layout.question, asked)))
    for k, step in enumerate(steps, start=1):
        if k > 1:
            said.append(LayoutTurn("assistant", (layout.history,)))
        template = layout.first if k == 1 else layout.later
        said.append(LayoutTurn("user", fill(template, asked, **step_values(template, step, k))))
    return Arrangement(tuple(said), "assistant")
