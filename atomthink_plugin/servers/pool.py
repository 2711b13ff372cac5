"""Several servers of one model: a question stays with one, and moves to another while that one is away."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from atomthink_plugin.servers.openai_client import Absence, Server, UnreachableError

R = TypeVar("R")

_LOSSES: Final = 5
"""Times that the connection for one piece of work may be lost: some requests end every server that gets them."""


class Servers:
    """Chooses the server for each request.

    A question goes to the server with the fewest requests when it is first asked, and stays there, so that one prefix
    cache serves all its steps. While that server is away, the next one in the question's order is asked; questions of
    other servers do not move.

    Args:
        servers: The servers of one model.
        wait: Seconds to wait for one of them to come back when none is left.
        prefix: Put before the names of arguments in messages.
    """

    def __init__(self, servers: Sequence[Server], wait: float, prefix: str = "") -> None:
        self._requests = dict.fromkeys(servers, 0)
        self._orders: dict[str, list[Server]] = {}
        self._wait = wait
        self._wait_name = f"`{prefix}wait={wait:g}`"

    async def ask(self, question: str, work: Callable[[Server], Awaitable[R]]) -> R:
        """Returns what `work` makes of the question's server.

        Args:
            question: Its id.
            work: Sends one or several requests to the server that it gets. Called again, with another server, when
                the first goes away.

        Raises:
            UnreachableError: No server is left and none came back in time, or the connection is lost every time.
        """
        if question not in self._orders:
            self._orders[question] = self._order(question)
        losses = 0
        while True:
            server = await self._present(self._orders[question])
            self._requests[server] += 1
            try:
                return await work(server)
            except UnreachableError as error:
                losses += 1
                if losses == _LOSSES or not server.reached:
                    raise
                await server.lost(error)
            finally:
                self._requests[server] -= 1
        raise AssertionError("unreachable")

    def _order(self, question: str) -> list[Server]:
        """Returns the servers that are there before the others, those with fewer requests first.

        Among equals a digest of the question decides, so that several processes do not all begin with the same server.
        """
        servers = list(self._requests)

        def weight(at: int) -> tuple[bool, int, bytes]:
            digest = hashlib.blake2b(f"{at}\0{question}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
            return servers[at].absence is not None, self._requests[servers[at]], digest

        return [servers[at] for at in sorted(range(len(servers)), key=weight)]

    async def _present(self, order: Sequence[Server]) -> Server:
        """Returns the first server that is not away, waiting for one if need be."""
        while True:
            absences: list[Absence] = []
            for server in order:
                if server.absence is None:
                    return server
                absences.append(server.absence)
            left = max(absence.since for absence in absences) + self._wait - time.monotonic()
            if left <= 0:
                reasons = "; ".join(str(absence.error) for absence in absences)
                raise UnreachableError(f"{reasons}; no server is left after {self._wait_name} seconds")
            backs = [asyncio.create_task(absence.over.wait()) for absence in absences]
            try:
                await asyncio.wait(backs, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for back in backs:
                    back.cancel()
