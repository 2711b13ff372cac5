"""Process reward models for vLLM that are read at the end of their prompt alone: `POST /classify`.

vLLM's own class of Qwen2.5-Math-PRM pools over all tokens, and does not read its prefix cache for that: every score
costs the whole history again. It has no class for language models with a value head. Read at the last token, which is
where the last step is scored, only new tokens are prefilled.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
from vllm.config import VllmConfig
from vllm.model_executor.layers.pooler import DispatchPooler
from vllm.model_executor.layers.pooler.seqwise import pooler_for_classify
from vllm.model_executor.models.interfaces_base import default_pooling_type
from vllm.model_executor.models.qwen2_rm import Qwen2ForProcessRewardModel, Qwen2RewardBaseModel

_VALUE_HEAD = "v_head.summary."
"""The value head's names in the checkpoints of TRL and of Skywork-o1-Open-PRM."""


def _last_step(vllm_config: VllmConfig) -> DispatchPooler:
    return DispatchPooler({"classify": pooler_for_classify(vllm_config.model_config.pooler_config)})


@default_pooling_type(seq_pooling_type="LAST")
class LastStepRewardModel(Qwen2ForProcessRewardModel):  # type: ignore[misc]  # vllm is optional
    """Qwen2.5-Math-PRM and ReasonFlux-PRM: the two classes of the last token."""

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        self.pooler = _last_step(vllm_config)


@default_pooling_type(seq_pooling_type="LAST")
class LastStepValueModel(Qwen2RewardBaseModel):  # type: ignore[misc]
    """Skywork-o1-Open-PRM, a Qwen2 with a value head: the one output of the last token."""

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        config = vllm_config.model_config.hf_config
        config.num_labels = 1
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        self.score = nn.Linear(config.hidden_size, 1, dtype=self.head_dtype)
        self.pooler = _last_step(vllm_config)

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        """Loads the language model and the value head."""
        renamed = ((name.replace(_VALUE_HEAD, "score."), weight) for name, weight in weights)
        loaded: set[str] = super().load_weights(renamed)
        return loaded
