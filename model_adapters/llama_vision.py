"""AtomThink-Llama-3.2-Vision-11B (arXiv 2411.11930), and any other Llama-Vision by `pretrained=`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from atomthink_plugin.model_adapters.lmms_models import AtomThinkModel


class AtomThinkLlamaVision(AtomThinkModel):
    """Llama 3.2 Vision; the published checkpoint was trained on the `atomic` format."""

    name: ClassVar[str] = "llama_vision"
    defaults: ClassVar[Mapping[str, Any]] = {
        "pretrained": "Quinn777/AtomThink-Llama-3.2-Vision-11B",
        "format": "atomic",
        "prm": "Qwen/Qwen2.5-Math-PRM-7B",
    }
