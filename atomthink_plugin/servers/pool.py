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

    Each question has its own order of the servers (rendezvous hashing), the same after a restart: the prefix cache of
    the first serves all its steps. While it is away, the next one in that order is asked; questions of other servers
    do not move.

    Args:
        servers: The servers of one model.
        wait: Seconds to wait for one of them to come back when none is left.
        prefix: Put before the names of arguments in messages.
    """

    def __init__(self, servers: Sequence[Server], wait: float, prefix: str = "") -> None:
        self._servers = list(servers)
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
        order = self._order(question)
        losses = 0
        while True:
            server = await self._present(order)
            try:
                return await work(server)
            except UnreachableError as error:
                losses += 1
                if losses == _LOSSES or not server.reached:
                    raise
                await server.lost(error)
        raise AssertionError("unreachable")

    def _order(self, question: str) -> list[Server]:
        def weight(at: int) -> bytes:
            text = f"{at}\0{question}".encode("utf-8", "surrogatepass")
            return hashlib.blake2b(text, digest_size=8).digest()

        return [self._servers[at] for at in sorted(range(len(self._servers)), key=weight)]

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
