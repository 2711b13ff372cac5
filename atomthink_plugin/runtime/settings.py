"""How one run thinks: everything that changes its results, in one frozen place."""

from __future__ import annotations

from dataclasses import dataclass

from atomthink_plugin.api import Sampling


@dataclass(frozen=True, slots=True)
class Settings:
    """Limits and sampling of every question of a run.

    Attributes:
        sampling: How the samples of a node are drawn in step-level searches.
        max_new_tokens: Tokens of one chain, where the question has no limit of its own.
        max_steps: Steps of one chain.
        retries: How often an expansion without a valid step is drawn again, `RETRY_HEAT` warmer each time.
        budget_calls: Samples of one question, None for no bound.
        budget_tokens: Generated tokens of one question, None for no bound.
        budget_seconds: Seconds of one question, None for no bound.
    """

    sampling: Sampling
    max_new_tokens: int = 2048
    max_steps: int = 30
    retries: int = 10
    budget_calls: int | None = 300
    budget_tokens: int | None = None
    budget_seconds: float | None = None


RETRY_HEAT = 0.1
"""Added to the temperature of every further attempt (published QuickThink)."""
