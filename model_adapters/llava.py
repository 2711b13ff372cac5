"""AtomThink-LLaVA1.5-7B (arXiv 2503.06252), and any other LLaVA by `pretrained=`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from atomthink_plugin.model_adapters.lmms_models import AtomThinkModel


class AtomThinkLlava(AtomThinkModel):
    """LLaVA, in transformers' format or, as the default checkpoint, in that of LLaVA's original code."""

    name: ClassVar[str] = "llava"
    defaults: ClassVar[Mapping[str, Any]] = {
        "pretrained": "Quinn777/AtomThink-LLaVA1.5-7B",
        "format": "atomic",
        "prm": "Qwen/Qwen2.5-Math-PRM-7B",
    }
