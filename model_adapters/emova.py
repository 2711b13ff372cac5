"""EMOVA (arXiv 2409.18042), whose code comes with the checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from atomthink_plugin.model_adapters.lmms_models import AtomThinkModel


class AtomThinkEmova(AtomThinkModel):
    """EMOVA, by its `-hf` checkpoints; not tuned to atomic steps. Its code runs with `trust_remote_code=True` only."""

    name: ClassVar[str] = "emova"
    policy: ClassVar[str] = "emova"
    defaults: ClassVar[Mapping[str, Any]] = {
        "pretrained": "Emova-ollm/emova-qwen-2-5-7b-hf",
        "prm": "Qwen/Qwen2.5-Math-PRM-7B",
    }
