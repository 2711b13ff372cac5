"""The budget of one question."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property

from atomthink_plugin.api import AtomThinkError, Usage


class BudgetSpentError(AtomThinkError):
    """The budget of the question does not pay for a critique."""


@dataclass
class Budget:
    """The policy calls, tokens and time that are left. None means no limit.

    A grant is subtracted at once, and its unused part is returned later, so that concurrent expansions never spend the
    same call twice. Callers take `turn` before a grant: concurrent chains may hold the whole budget, and the caller
    then waits until they return their parts.

    Attributes:
        calls: Samples that may still be drawn.
        tokens: Tokens that may still be generated.
        deadline: Time of `clock` after which nothing new is started.
        generated: Tokens generated so far.
        clock: Returns the time in seconds.
    """

    calls: int | None = None
    tokens: int | None = None
    deadline: float | None = None
    generated: int = 0
    clock: Callable[[], float] = time.monotonic

    @cached_property
    def turn(self) -> asyncio.Lock:
        """The lock for taking a grant, in the order of the calls."""
        return asyncio.Lock()

    def grant(self, n: int, max_tokens: int) -> tuple[int, int]:
        """Takes up to `n` samples of up to `max_tokens` tokens.

        Returns:
            The granted samples and tokens per sample; (0, 0) when the budget is spent.
        """
        if self.deadline is not None and self.clock() >= self.deadline:
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
        """Returns the unused part of a grant of `n` samples of `max_tokens` tokens."""
        self._take(used.policy_calls - n, used.generated - n * max_tokens)
        self.generated += used.generated

    def judged(self, n: int, max_tokens: int) -> int:
        """Returns how many tokens each of `n` replies of a critic may have, 0 if the tokens are spent.

        One token per reply is left for its verdict, unless the reply is the verdict itself. Nothing is taken.
        """
        if self.tokens is None:
            return max_tokens
        return max(0, min(max_tokens, self.tokens // n - (max_tokens > 1)))

    def charge(self, tokens: int) -> None:
        """Takes the tokens that a critic has sampled."""
        self._take(0, tokens)

    @asynccontextmanager
    async def lent(self, n: int, calls: int, tokens: int) -> AsyncIterator[list[Budget]]:
        """Divides the budget among as many of `n` chains as it certainly pays for (`affordable`), until they end."""
        bounded = self.calls is not None or self.tokens is not None
        async with self.turn if bounded else nullcontext():
            parts = self.split(self.affordable(n, calls, tokens))
            try:
                yield parts
            finally:
                self.join(parts)

    def affordable(self, n: int, calls: int, tokens: int) -> int:
        """Returns how many of `n` chains of up to `calls` samples and `tokens` tokens the budget certainly pays for.

        At least one. A chain without a budget ends at once.
        """
        bounds = [left // each for left, each in ((self.calls, calls), (self.tokens, tokens)) if left is not None]
        return max(1, min([n, *bounds]))

    def split(self, n: int) -> list[Budget]:
        """Divides the budget into `n` parts, so that concurrent paths do not compete for it.

        The first parts get the remainder. `join` takes back what the parts leave.
        """
        parts = [
            Budget(_share(self.calls, n, i), _share(self.tokens, n, i), self.deadline, clock=self.clock)
            for i in range(n)
        ]
        self.calls = None if self.calls is None else 0
        self.tokens = None if self.tokens is None else 0
        return parts

    def join(self, parts: Sequence[Budget]) -> None:
        """Takes back the rest of the parts of a `split`."""
        self._take(-sum(part.calls or 0 for part in parts), -sum(part.tokens or 0 for part in parts))
        self.generated += sum(part.generated for part in parts)

    def _take(self, calls: int, tokens: int) -> None:
        if self.calls is not None:
            self.calls -= calls
        if self.tokens is not None:
            self.tokens -= tokens


def _share(whole: int | None, parts: int, index: int) -> int | None:
    return None if whole is None else whole // parts + (index < whole % parts)
