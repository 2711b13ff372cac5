"""From the name of a model, as in `lmms-eval --model`, and its arguments to a checked plan."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.config import Plan, plan
from atomthink_plugin.plugins.arguments import pick
from atomthink_plugin.plugins.hookspecs import NamedModel
from atomthink_plugin.plugins.registry import registry

SAMPLED: Final[Mapping[str, Any]] = {"temperature": 1.0, "budget_calls": "None"}
"""Defaults of rollouts: greedy ones from the same prefix would all be equal."""

_SHARED: Final = ("batch_size", "device")
"""Arguments of the policy that hold for the process reward model as well, unless it is given its own (`prm_device`)."""


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
    given, defaults = with_config_file(typed), dict(defaults or {})
    chosen = {**defaults, **given}
    shared = {f"prm_{argument}": chosen[argument] for argument in _SHARED if argument in chosen}
    planned = plan(given.get("policy", model.policy), given, {**model.defaults, **shared, **defaults})
    if planned.identity["policy"]["name"] == "lmms" and planned.identity["scorer"]["kind"] == "confidence":
        raise AtomThinkError(
            "`scorer=confidence` needs log-probabilities, and a model of lmms-eval gives none: name a process reward "
            "model with `prm=`"
        )
    return planned


def with_config_file(typed: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments, with those of the YAML file that `config=` names where they are not typed.

    Raises:
        AtomThinkError: There is no such file, or it is no mapping of names to values.
    """
    typed = dict(typed)
    if (file := typed.pop("config", None)) is None:
        return typed
    try:
        read = yaml.safe_load(Path(file).expanduser().read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise AtomThinkError(f"`config={file}` cannot be read: {error}") from error
    if not isinstance(read, dict) or not all(isinstance(name, str) for name in read):
        raise AtomThinkError(f"`config={file}` is no mapping of argument names to values")
    return {**read, **typed}


def rollout_plan(name: str, typed: Mapping[str, Any]) -> Plan:
    """Checks the arguments of a model that samples QuickThink chains, without search or scorer.

    Args:
        name: As in `lmms-eval --model`.
        typed: The user's arguments by name.

    Raises:
        AtomThinkError: There is no such model, or an argument cannot be used.
    """
    typed = with_config_file(typed)
    for argument in ("thinking", "search", "prm", "scorer"):
        if argument in typed:
            raise AtomThinkError(
                f"`{argument}={typed[argument]}`: rollouts are QuickThink chains, without search or scorer"
            )
    return plan_for(name, typed, SAMPLED)
