"""Qwen2.5-Math-PRM for vLLM, read at the end of its prompt alone.

vLLM's own class pools over all tokens, and does not read its prefix cache for that: every score costs the whole
history again. Read at the last token, which is the last step's separator, only new tokens are prefilled.
"""

from __future__ import annotations

from vllm.config import VllmConfig
from vllm.model_executor.layers.pooler import DispatchPooler
from vllm.model_executor.layers.pooler.seqwise import pooler_for_classify
from vllm.model_executor.models.interfaces_base import default_pooling_type
from vllm.model_executor.models.qwen2_rm import Qwen2ForProcessRewardModel


@default_pooling_type(seq_pooling_type="LAST")
class LastStepRewardModel(Qwen2ForProcessRewardModel):  # type: ignore[misc]  # vllm is optional
    """Gives the two classes' probabilities at the last token: `POST /classify`."""

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        self.pooler = DispatchPooler({"classify": pooler_for_classify(vllm_config.model_config.pooler_config)})
