"""The requests of a generative scorer about one question."""

from __future__ import annotations

from dataclasses import replace

from atomthink_plugin.api import Policy, Prompt, Proposal, Sampling, Usage
from atomthink_plugin.runtime.budget import Budget, BudgetSpentError


class BudgetedCritic:
    """A critic whose tokens are taken from a question's budget. Implements `Policy`.

    With a budget of tokens there is one request at a time, so that each has a limit that the budget pays for.

    Attributes:
        usage: The cost of its replies so far.

    Args:
        critic: The policy to ask.
        budget: The question's budget.
    """

    def __init__(self, critic: Policy, budget: Budget) -> None:
        self.identity = critic.identity
        self.usage = Usage()
        self._critic, self._budget = critic, budget

    async def propose(self, prompt: Prompt, n: int, sampling: Sampling) -> Proposal:
        """Returns `n` replies that are no longer than the budget allows.

        Raises:
            BudgetSpentError: The budget pays for none.
        """
        if self._budget.tokens is None:
            return self._counted(await self._critic.propose(prompt, n, sampling))
        async with self._budget.turn:
            limit = self._budget.judged(n, sampling.max_tokens)
            if limit == 0:
                raise BudgetSpentError("the budget of the question is spent")
            proposal = self._counted(await self._critic.propose(prompt, n, replace(sampling, max_tokens=limit)))
            self._budget.charge(proposal.usage.tokens)
            return proposal

    def _counted(self, proposal: Proposal) -> Proposal:
        self.usage += proposal.usage.as_judged()
        return proposal
