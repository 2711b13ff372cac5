"""Plans by the names that users give models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.named_models import plan_for, rollout_plan
from atomthink_plugin.plugins.registry import registry
from atomthink_plugin.testing import ScriptedPolicy


def test_a_models_own_defaults_stand_below_the_callers_and_those_below_the_users() -> None:
    own = registry().models["atomthink_tiny"].defaults["step_tokens"]
    assert plan_for("atomthink_tiny", {}).settings.sampling.max_tokens == own
    assert plan_for("atomthink_tiny", {}, {"step_tokens": 7}).settings.sampling.max_tokens == 7
    assert plan_for("atomthink_tiny", {"step_tokens": "9"}, {"step_tokens": 7}).settings.sampling.max_tokens == 9


def test_an_unknown_model_is_named_with_those_there_are() -> None:
    with pytest.raises(AtomThinkError, match=r"atomthink_tinny.*atomthink_tiny"):
        plan_for("atomthink_tinny", {})


def test_rollouts_are_sampled_and_have_no_budget() -> None:
    plan = rollout_plan("atomthink_tiny", {})
    assert plan.search_name == "quick"
    assert plan.settings.sampling.temperature == 1.0
    assert plan.settings.budget_calls is None
    assert rollout_plan("atomthink_tiny", {"temperature": "0.5"}).settings.sampling.temperature == 0.5


@pytest.mark.parametrize("typed", [{"thinking": "slow"}, {"search": "beam"}, {"prm": "x"}, {"scorer": "confidence"}])
def test_rollouts_have_no_search_and_no_scorer(typed: dict[str, Any]) -> None:
    (name,) = typed
    with pytest.raises(AtomThinkError, match=f"{name}={typed[name]}"):
        rollout_plan("atomthink_tiny", typed)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ({}, {"policy": (0, "auto"), "scorer": (0, "auto")}),
        ({"batch_size": 2, "device": "cpu"}, {"policy": (2, "cpu"), "scorer": (2, "cpu")}),
        ({"batch_size": 2, "prm_batch_size": "3"}, {"policy": (2, "auto"), "scorer": (3, "auto")}),
    ],
)
def test_batch_size_and_device_hold_for_the_prm_unless_it_has_its_own(
    typed: dict[str, Any], expected: dict[str, tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, tuple[int, str]] = {}

    def policy(pretrained: str, batch_size: int = 0, device: str = "auto") -> Any:
        made["policy"] = batch_size, device
        return ScriptedPolicy({})

    def scorer(prm: str, batch_size: int = 0, device: str = "auto") -> Any:
        made["scorer"] = batch_size, device

    offers = registry()
    monkeypatch.setitem(offers.policies, "transformers", policy)
    monkeypatch.setitem(offers.scorers, "prm_token", scorer)
    planned = plan_for("atomthink_tiny", {"thinking": "slow", "scorer": "prm_token", **typed})
    planned.policy()
    assert planned.scorer is not None
    planned.scorer()
    assert made == expected


def test_a_config_file_gives_what_is_not_typed(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("thinking: slow\nsearch: majority\nn: 3\n")
    planned = plan_for("atomthink_tiny", {"config": str(file), "n": 2})
    assert (planned.search_name, planned.identity["search"]["n"]) == ("majority", 2)


def test_a_model_of_lmms_eval_has_no_confidence() -> None:
    arguments = {"base": "qwen2_5_vl", "thinking": "slow", "scorer": "confidence", "policy": "lmms", "format": "atomic"}
    for name in ("atomthink_lmms", "atomthink_hf"):
        with pytest.raises(AtomThinkError, match="`scorer=confidence`"):
            plan_for(name, arguments)
