"""What one question may spend."""

from __future__ import annotations

import time
from dataclasses import dataclass

from atomthink_plugin.api import Usage


@dataclass
class Budget:
    """Policy calls, tokens and time left; None is without bound.

    A grant is taken off at once and what was not used of it is given back, so that concurrent
    expansions can never spend the same call twice.

    Attributes:
        calls: Samples that may still be drawn.
        tokens: Tokens that may still be generated.
        deadline: `time.monotonic()` after which nothing new is started.
    """

    calls: int | None = None
    tokens: int | None = None
    deadline: float | None = None

    def grant(self, n: int, max_tokens: int) -> tuple[int, int]:
        """Takes up to `n` samples of up to `max_tokens` tokens.

        Returns:
            Samples and tokens per sample that may be spent; (0, 0) when the budget is spent.
        """
        if self.deadline is not None and time.monotonic() >= self.deadline:
            return 0, 0
        if self.calls is not None:
            n = min(n, self.calls)
        if self.tokens is not None:
            n = min(n, self.tokens)
            max_tokens = min(max_tokens, self.tokens // n) if n > 0 else 0
        if n <= 0 or max_tokens <= 0:
            return 0, 0
        self._take(n, n * max_tokens)
        return n, max_tokens

    def settle(self, n: int, max_tokens: int, used: Usage) -> None:
        """Gives back what a grant of `n` samples of `max_tokens` did not use."""
        self._take(used.policy_calls - n, used.generated - n * max_tokens)

    def split(self, n: int) -> list[Budget]:
        """Divides what is left into `n` equal budgets, so that concurrent paths do not race for it."""
        calls = None if self.calls is None else self.calls // n
        tokens = None if self.tokens is None else self.tokens // n
        return [Budget(calls, tokens, self.deadline) for _ in range(n)]

    def _take(self, calls: int, tokens: int) -> None:
        if self.calls is not None:
            self.calls -= calls
        if self.tokens is not None:
            self.tokens -= tokens
