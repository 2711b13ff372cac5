"""The models that users name, as in `lmms-eval --model atomthink_qwen_vl`: what each of them loads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.config import Plan, plan
from atomthink_plugin.model_adapters.tiny import TINY_ARGUMENTS
from atomthink_plugin.plugins.arguments import pick

_QWEN_PRM: Final = "Qwen/Qwen2.5-Math-PRM-7B"


@dataclass(frozen=True, slots=True)
class NamedModel:
    """A model by its name.

    Attributes:
        policy: Registered name of its policy; `policy=` overrides it.
        defaults: Arguments of a run where the user gives none.
    """

    policy: str = "transformers"
    defaults: Mapping[str, Any] = field(default_factory=dict)


MODELS: Final[Mapping[str, NamedModel]] = {
    "atomthink_tiny": NamedModel(defaults=TINY_ARGUMENTS),
    "atomthink_hf": NamedModel(),
    "atomthink_llava": NamedModel(
        defaults={"pretrained": "Quinn777/AtomThink-LLaVA1.5-7B", "format": "atomic", "prm": _QWEN_PRM}
    ),
    "atomthink_llama_vision": NamedModel(
        defaults={"pretrained": "Quinn777/AtomThink-Llama-3.2-Vision-11B", "format": "atomic", "prm": _QWEN_PRM}
    ),
    "atomthink_emova": NamedModel("emova", {"pretrained": "Emova-ollm/emova-qwen-2-5-7b-hf", "prm": _QWEN_PRM}),
    "atomthink_lmms": NamedModel("lmms", {"format": "atomic"}),
    "atomthink_openai": NamedModel("openai"),
    "atomthink_qwen_vl": NamedModel(defaults={"pretrained": "Qwen/Qwen2.5-VL-7B-Instruct", "prm": _QWEN_PRM}),
    "atomthink_vllm": NamedModel("vllm"),
}


def plan_for(name: str, typed: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> Plan:
    """Checks the arguments of a model; nothing is loaded.

    Args:
        name: One of `MODELS`.
        typed: The user's arguments by name, values as strings or already converted.
        defaults: Used where the user gives no value; they override the model's own.

    Raises:
        AtomThinkError: There is no such model, or an argument cannot be used.
    """
    model: NamedModel = pick("model", name, MODELS)
    given = dict(typed)
    planned = plan(given.pop("policy", model.policy), given, {**model.defaults, **(defaults or {})})
    if planned.identity["policy"]["name"] == "lmms" and planned.identity["scorer"]["kind"] == "confidence":
        raise AtomThinkError(
            "`scorer=confidence` needs log-probabilities, and a model of lmms-eval gives none: name a process reward "
            "model with `prm=`"
        )
    return planned
