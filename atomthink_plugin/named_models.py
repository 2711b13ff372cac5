"""From the name of a model, as in `lmms-eval --model`, and its arguments to a checked plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.config import Plan, plan
from atomthink_plugin.plugins.arguments import pick
from atomthink_plugin.plugins.hookspecs import NamedModel
from atomthink_plugin.plugins.registry import registry

SAMPLED: Final[Mapping[str, Any]] = {"temperature": 1.0, "budget_calls": "None"}
"""Defaults of rollouts: greedy ones from the same prefix would all be equal."""


def plan_for(name: str, typed: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> Plan:
    """Checks the arguments of a model; nothing is loaded.

    Args:
        name: As in `lmms-eval --model`.
        typed: The user's arguments by name, values as strings or already converted.
        defaults: Used where the user gives no value; they override the model's own.

    Raises:
        AtomThinkError: There is no such model, or an argument cannot be used.
    """
    model: NamedModel = pick("model", name, registry().models)
    given = dict(typed)
    planned = plan(given.pop("policy", model.policy), given, {**model.defaults, **(defaults or {})})
    if planned.identity["policy"]["name"] == "lmms" and planned.identity["scorer"]["kind"] == "confidence":
        raise AtomThinkError(
            "`scorer=confidence` needs log-probabilities, and a model of lmms-eval gives none: name a process reward "
            "model with `prm=`"
        )
    return planned


def rollout_plan(name: str, typed: Mapping[str, Any]) -> Plan:
    """Checks the arguments of a model that samples QuickThink chains, without search or scorer.

    Args:
        name: As in `lmms-eval --model`.
        typed: The user's arguments by name.

    Raises:
        AtomThinkError: There is no such model, or an argument cannot be used.
    """
    for argument in ("thinking", "search", "prm", "scorer"):
        if argument in typed:
            raise AtomThinkError(
                f"`{argument}={typed[argument]}`: rollouts are QuickThink chains, without search or scorer"
            )
    return plan_for(name, typed, SAMPLED)
