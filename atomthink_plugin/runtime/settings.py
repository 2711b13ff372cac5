"""The limits and sampling parameters of a run."""

from __future__ import annotations

from dataclasses import dataclass

from atomthink_plugin.api import Sampling


@dataclass(frozen=True, slots=True)
class Settings:
    """Limits and sampling of every question of a run.

    Attributes:
        sampling: Sampling parameters of step-level searches.
        max_new_tokens: Tokens of one chain, unless the question has its own limit.
        max_steps: Steps of one chain.
        retries: How often an expansion without a valid step is retried, each time at a temperature `RETRY_HEAT` higher.
        budget_calls: Samples of one question, None for no limit.
        budget_tokens: Generated tokens of one question, None for no limit.
        budget_seconds: Seconds of one question, None for no limit.
    """

    sampling: Sampling
    max_new_tokens: int = 2048
    max_steps: int = 30
    retries: int = 10
    budget_calls: int | None = 300
    budget_tokens: int | None = None
    budget_seconds: float | None = None


RETRY_HEAT = 0.1
"""Added to the temperature at each retry, as in the published QuickThink."""
