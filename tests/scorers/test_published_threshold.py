"""The threshold that a scorer brings."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from atomthink_plugin.scorers.prm_profile import PairReadOut, Profile, TaggedLayout
from atomthink_plugin.scorers.profile_catalogue import all_profiles
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


_AGGREGATES: dict[str, set[str]] = {
    "mean": {"dreamprm_1_5", "evpv_prm", "qwen_vl_prm", "visualprm_8b", "visualprm_8b_v1_1", "vrprm_v2"}
    | {"rlhflow_deepseek", "rlhflow_mistral"},
    "min": {"math_shepherd", "qwen_prm800k", "reasoneval_34b", "ursa_rm_8b", "versaprm"},
    "last": {"thinkprm_1_5b", "thinkprm_7b", "thinkprm_14b"},
}
"""Aggregates of the authors' code. Those of other PRMs are not established, or are none of ours."""


def test_thresholds_and_aggregates_are_the_authors() -> None:
    models = {name: found.model for name, found in all_profiles().items()}
    thresholds = {name: (one.threshold, one.strict) for name, one in models.items()}
    special = {"visualprm_8b": (0.85, True), "visualprm_8b_v1_1": (0.85, True), "pure_prm": (0.5, True)}
    assert thresholds == dict.fromkeys(models, (0.5, False)) | special
    stated = {name: one.aggregate for name, one in models.items() if "aggregate" in one.model_fields_set}
    assert stated == {name: aggregate for aggregate, names in _AGGREGATES.items() for name in names}
