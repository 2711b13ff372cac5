"""The policies of one question, by role."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from atomthink_plugin.api import AtomThinkError, Path, Policy, Prompt, Proposal, Step, Usage
from atomthink_plugin.exits import no_exit
from atomthink_plugin.runtime.budget import Budget
from atomthink_plugin.runtime.requests import Request


class PolicyCalls:
    """Asks the policies and adds up the cost of their answers.

    Attributes:
        usage: The cost so far.

    Args:
        policies: The policies, by role.
    """

    def __init__(self, policies: Mapping[str, Policy]) -> None:
        self.usage = Usage()
        self._policies = policies
        self._running: set[asyncio.Task[Proposal]] = set()

    def prompt(self, path: Path, prompt: Prompt, role: str, depth: int) -> Prompt:
        """Returns the prompt for `role`. Steps sampled by another model are passed as text, not as token ids.

        Raises:
            AtomThinkError: The search does not declare this role.
        """
        own = self._policy(role).identity
        begun = tuple(
            piece.text if isinstance(piece, Step) and self._author(piece) != own else piece for piece in prompt.begun
        )
        return Prompt(prompt.messages, begun, prompt.stops, path.question.id, depth)

    async def propose(self, requests: Sequence[Request], budget: Budget) -> list[Proposal]:
        """Sends all requests concurrently, and returns the unused part of their grants to `budget`.

        Errors are raised after all requests have ended, so that the raised error does not depend on timing.
        """
        tasks = [asyncio.create_task(self._propose(request, budget)) for request in requests]
        self._running.update(tasks)
        for task in tasks:
            task.add_done_callback(self._running.discard)
        await asyncio.gather(*tasks, return_exceptions=True)
        return [task.result() for task in tasks]

    async def close(self) -> None:
        """Cancels the requests in flight. A search may end or fail before all its requests have ended."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _propose(self, request: Request, budget: Budget) -> Proposal:
        used = Usage()
        try:
            with no_exit("the policy" if request.role == "policy" else f"the policy {request.role!r}"):
                proposal = await self._policy(request.role).propose(request.prompt, request.n, request.sampling)
            used = proposal.usage
        finally:
            budget.settle(request.n, request.sampling.max_tokens, used)
            self.usage += used
        return proposal.redacted()

    def _policy(self, role: str) -> Policy:
        if role not in self._policies:
            raise AtomThinkError(
                f"the search asks the role {role!r} and has {', '.join(self._policies)}. Declare it in the `roles` or "
                "`optional_roles` of its SearchKind"
            )
        return self._policies[role]

    def _author(self, step: Step) -> str | None:
        policy = self._policies.get(step.role)
        return policy.identity if policy is not None else None
