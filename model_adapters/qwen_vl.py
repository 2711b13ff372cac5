"""Qwen2.5-VL, and any other Qwen-VL by `pretrained=`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from atomthink_plugin.model_adapters.lmms_models import AtomThinkModel


class AtomThinkQwenVL(AtomThinkModel):
    """Qwen-VL, not tuned to atomic steps: it is asked to go on in the `continue` format."""

    name: ClassVar[str] = "qwen_vl"
    defaults: ClassVar[Mapping[str, Any]] = {
        "pretrained": "Qwen/Qwen2.5-VL-7B-Instruct",
        "prm": "Qwen/Qwen2.5-Math-PRM-7B",
    }
