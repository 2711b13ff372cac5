"""Question and steps in the layout of a profile."""

from __future__ import annotations

from collections.abc import Sequence

from atomthink_plugin.scorers.layouts.arrangement import Arrangement, AskedText
from atomthink_plugin.scorers.layouts.asked import asked_turn
from atomthink_plugin.scorers.layouts.tagged import tagged
from atomthink_plugin.scorers.layouts.turns import turns
from atomthink_plugin.scorers.prm_profile import AskedLayout, Profile, TaggedLayout, TurnsLayout


def arranged(profile: Profile, asked: AskedText, steps: Sequence[str]) -> Arrangement:
    """Returns question and steps up to the reading position of the last step.

    Args:
        profile: The profile.
        asked: The question.
        steps: Texts of the steps, at least one.
    """
    match profile.layout:
        case TurnsLayout() as layout:
            return turns(layout, asked, steps)
        case TaggedLayout() as layout:
            return tagged(layout, asked, steps)
        case AskedLayout() as layout:
            return asked_turn(layout, asked, steps)
