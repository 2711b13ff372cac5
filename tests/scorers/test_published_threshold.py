"""The threshold that a scorer brings."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from atomthink_plugin.scorers.prm_profile import PairReadOut, Profile, TaggedLayout
from atomthink_plugin.scorers.published_threshold import published_threshold
from atomthink_plugin.step_metrics.judged_steps import Threshold


def test_a_profile_has_the_threshold_and_other_scorers_a_half() -> None:
    profile = Profile(
        names=("org/prm",),
        layout=TaggedLayout(kind="tagged", tag="+"),
        read=PairReadOut(kind="pair", good="a", bad="b"),
        loader="causal",
        threshold=0.85,
        strict=True,
        licence="MIT",
        source="a test",
    )
    scorer: Any = SimpleNamespace(identity="x", profile=profile)
    assert published_threshold(scorer) == Threshold(0.85, strict=True)
    other: Any = SimpleNamespace(identity="x")
    assert published_threshold(other) == Threshold(0.5)
