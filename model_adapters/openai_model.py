"""A model behind an OpenAI-compatible server: vLLM, SGLang, or a hosted one."""

from __future__ import annotations

from typing import ClassVar

from atomthink_plugin.model_adapters.lmms_models import AtomThinkModel


class AtomThinkOpenAI(AtomThinkModel):
    """A served model, by `pretrained=` and `base_url=`; the key is OPENAI_API_KEY of the environment."""

    name: ClassVar[str] = "openai"
    policy: ClassVar[str] = "openai"
