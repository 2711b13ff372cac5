"""A model that vLLM runs in this process."""

from __future__ import annotations

from typing import ClassVar

from atomthink_plugin.model_adapters.lmms_models import AtomThinkModel


class AtomThinkVllm(AtomThinkModel):
    """Any multimodal checkpoint that vLLM can run, by `pretrained=`."""

    name: ClassVar[str] = "vllm"
    policy: ClassVar[str] = "vllm"
