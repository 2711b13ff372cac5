"""How much of the context must be free for a step."""

from __future__ import annotations

from typing import Final

MIN_STEP_TOKENS: Final = 32
"""Tokens that must be free in the context for a step to be worth starting."""


def least_tokens(limit: int) -> int:
    """Returns how many tokens must be free in the context for a step of at most `limit` tokens."""
    return min(MIN_STEP_TOKENS, limit)
