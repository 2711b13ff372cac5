"""What vLLM calls in each of its processes: entry-point group `vllm.general_plugins`."""

from __future__ import annotations


def register() -> None:
    """Makes the architecture `LastStepRewardModel` known; a server uses it only where its user names it."""
    from vllm import ModelRegistry

    ModelRegistry.register_model(
        "LastStepRewardModel", "atomthink_plugin.model_adapters.vllm_process_reward:LastStepRewardModel"
    )
