"""A generative PRM from what a user types: its profile, the policy that runs it, and what is refused before loading."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.config import Plan, plan, scorer_plan
from atomthink_plugin.plugins.registry import registry
from atomthink_plugin.runtime.build import build
from atomthink_plugin.scorers.prm_judge import PrmJudge
from tests.scorers.scripted_critic import ScriptedCritic

JUDGED = {"thinking": "slow", "search": "best_of_n", "pretrained": "own", "scorer": "prm_judge", "prm": "judge"}


def planned(**typed: Any) -> Plan:
    return plan("transformers", {**JUDGED, **typed})


@pytest.mark.parametrize(
    ("typed", "policy"),
    [
        ({"prm_profile": "prompted_critic"}, "transformers"),
        ({"prm_profile": "thinkprm_7b"}, "transformers_text"),
        ({"prm": "kevinpro/R-PRM-7B-DPO"}, "transformers_text"),
        ({"prm_profile": "thinkprm_7b", "prm_base_url": "http://localhost:1/v1"}, "openai"),
        ({"prm_profile": "thinkprm_7b", "prm_policy": "vllm", "prm_max_model_len": 99}, "vllm"),
    ],
)
def test_the_critic_is_run_by_the_named_policy_else_by_the_one_that_fits(typed: dict[str, Any], policy: str) -> None:
    made = planned(**typed)
    assert made.critic is not None
    assert made.critic.kind == policy
    given = {"prm": "judge", **typed}
    assert made.critic.arguments["pretrained"] == given["prm"]
    assert made.identity["scorer"]["critic"]["name"] == policy


def test_arguments_of_the_critic_change_the_identity_and_reach_its_policy() -> None:
    plain, other = planned(prm_profile="prompted_critic"), planned(prm_profile="prompted_critic", prm_dtype="bfloat16")
    assert other.critic is not None
    assert other.critic.arguments["dtype"] == "bfloat16"
    assert plain.identity["scorer"] != other.identity["scorer"]


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ({}, "prompted_critic"),
        ({"prm_profile": "vrprm_v3"}, "vrprm_v2"),
        ({"prm_profile": "vrprm_v2", "search": "beam"}, "best_of_n"),
        ({"prm_profile": "prompted_critic", "prm_policy": "transformer"}, "transformers"),
        ({"prm_profile": "prompted_critic", "prm_nonsense": 1}, "prm_nonsense"),
        ({"prm_profile": "prompted_critic", "prm_max_model_len": 9}, "prm_policy=vllm"),
        ({"prm_profile": "prompted_critic", "prm_critic": 9}, "prm_critic"),
        ({"prm_profile": "prompted_critic", "prm_samples": 0}, "prm_samples=0"),
        ({"prm_profile": "prompted_critic", "prm_cache_gib": "much"}, "prm_cache_gib=much"),
        ({"prm_profile": "math_shepherd"}, "prm_profiled"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_is_loaded(typed: dict[str, Any], message: str) -> None:
    with pytest.raises(AtomThinkError, match=message):
        planned(**typed)


def test_a_mistyped_profile_is_named_before_the_checkpoint_is_looked_at() -> None:
    with pytest.raises(AtomThinkError, match=r"`prm_profil` .*`prm_profile`"):
        scorer_plan({"prm": "no/such-checkpoint", "prm_profil": "math_psa"})


def test_a_chain_critic_takes_every_search_over_chains() -> None:
    for search in ("best_of_n", "weighted", "refined_best_of_n"):
        assert planned(prm_profile="vrprm_v2", search=search).critic is not None


def test_commands_that_score_given_steps_take_a_critic() -> None:
    found = scorer_plan({"prm": "launch/ThinkPRM-7B", "scorer": "prm_judge", "prm_base_url": "http://localhost:1/v1"})
    assert found.critic is not None
    assert found.critic.kind == "openai"
    with pytest.raises(AtomThinkError, match="prompted_critic"):
        scorer_plan({"prm": "unknown", "scorer": "prm_judge"})


def test_a_critic_with_the_plan_of_the_run_shares_its_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def scripted(pretrained: str, *, device: str = "cpu") -> ScriptedCritic:
        made.append(pretrained)
        return ScriptedCritic(identity=pretrained)

    offers = replace(registry(), policies={**registry().policies, "transformers": scripted})
    monkeypatch.setattr("atomthink_plugin.config.registry", lambda: offers)
    shared = build(planned(prm="own", prm_profile="prompted_critic"))
    assert made == ["own"]
    assert isinstance(shared.scorer, PrmJudge)
    assert shared.scorer.critic is shared.policy
    assert shared.roles == {}
    separate = build(planned(prm="own", prm_profile="prompted_critic", prm_device="cuda:1"))
    assert made == ["own", "own", "own"]
    assert separate.scorer is not None


def test_changed_critiques_keep_the_rules_of_a_profile() -> None:
    made = planned(prm_profile="prompted_critic", prm_samples=3)
    assert made.scorer is not None
    with pytest.raises(AtomThinkError, match="prm_samples=3"):
        made.scorer(ScriptedCritic())
    warm = planned(prm_profile="prompted_critic", prm_samples=3, prm_temperature=0.7).scorer
    assert warm is not None
    assert warm(ScriptedCritic()).profile.critique.samples == 3  # type: ignore[attr-defined]
