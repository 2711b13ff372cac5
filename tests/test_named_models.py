"""Plans by the names that users give models."""

from __future__ import annotations

from typing import Any

import pytest

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.named_models import plan_for, rollout_plan
from atomthink_plugin.plugins.registry import registry


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
