"""A request per step with the steps so far."""

from __future__ import annotations

from collections.abc import Sequence

from atomthink_plugin.scorers.layouts.arrangement import Arrangement, AskedText, LayoutTurn, fill, step_values
from atomthink_plugin.scorers.prm_profile import AskedLayout


def asked_turn(layout: AskedLayout, asked: AskedText, steps: Sequence[str]) -> Arrangement:
    """Returns the request; the assistant's reply to it follows.

    Args:
        layout: The profile's layout.
        asked: The question.
        steps: Texts of the steps, at least one.
    """
    values = [step_values(layout.step, step, k) for k, step in enumerate(steps, start=1)]
    written = ["".join(part or "" for part in fill(layout.step, asked, **each)) for each in values]
    last = step_values(layout.user, steps[-1], len(steps))
    user = LayoutTurn("user", fill(layout.user, asked, steps=layout.between.join(written), **last))
    system = () if layout.system is None else (LayoutTurn("system", (layout.system,)),)
    return Arrangement((*system, user), "assistant", (layout.begin,) if layout.begin else ())
