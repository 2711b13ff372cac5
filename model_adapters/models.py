"""The models that users name, as in `lmms-eval --model atomthink_qwen_vl`: what each of them loads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from atomthink_plugin.model_adapters.tiny import TINY_ARGUMENTS
from atomthink_plugin.plugins.hookspecs import NamedModel

_QWEN_PRM: Final = "Qwen/Qwen2.5-Math-PRM-7B"


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
