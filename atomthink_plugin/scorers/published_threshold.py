"""The threshold between wrong and right steps that a scorer was published with."""

from __future__ import annotations

from atomthink_plugin.api import Scorer
from atomthink_plugin.scorers.prm_profile import PublishedModel
from atomthink_plugin.step_metrics.judged_steps import Threshold


def published_threshold(scorer: Scorer) -> Threshold:
    """Returns the threshold of the scorer's profile; of a scorer without a profile 0.5."""
    profile = getattr(scorer, "profile", None)
    return Threshold(profile.threshold, profile.strict) if isinstance(profile, PublishedModel) else Threshold()
