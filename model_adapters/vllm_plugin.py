"""What vLLM calls in each of its processes: entry-point group `vllm.general_plugins`."""

from __future__ import annotations


def register() -> None:
    """Registers the architectures of this package; a server uses one only if its user names it."""
    from vllm import ModelRegistry

    for name in ("LastStepRewardModel", "LastStepValueModel"):
        ModelRegistry.register_model(name, f"atomthink_plugin.model_adapters.vllm_process_reward:{name}")
