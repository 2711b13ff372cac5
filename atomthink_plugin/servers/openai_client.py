"""One server that speaks OpenAI's protocol, as policies and process reward models ask it: keys, retries, faults.

Callers define requests and replies. Any failure in between ends as a `ServerError` that
names the argument to change.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError

from atomthink_plugin.api import AtomThinkError, ServerError
from atomthink_plugin.inference.phases import PhaseClock
from atomthink_plugin.redaction import printable, remember
from atomthink_plugin.servers.pauses import pause_after
from atomthink_plugin.servers.pictures import Pictures
from atomthink_plugin.servers.replies import Checks

if TYPE_CHECKING:
    import openai  # at run time in the functions that ask: it takes a second, and every run looks at all policies

log = logging.getLogger(__name__)

KEY: Final = "OPENAI_API_KEY"
"""Environment variable with the servers' key."""

_CONNECT: Final = 10.0
"""Seconds after which a connection that is not made counts as dropped."""

_AGAIN: Final = 5.0
"""Seconds between tries to reach a server that went away."""

_GATEWAY: Final = (502, 503, 504)
"""HTTP statuses of a gateway in front of a server that is away."""

_UNSENT: Final = ("ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError")
"""Errors of requests that were never sent; by name, as the client library has them of one of two packages."""

_RANK: Final = "X-data-parallel-rank"
"""Header by which vLLM lets a client choose the engine (`--data-parallel-size`)."""

_LIST: Final = 2**24
"""Bytes of a list of models at most: hosted servers have hundreds of them."""

_QUOTED: Final = 300
"""Characters of a server's own words in an error."""


class UnreachableError(ServerError):
    """Nobody answers at the server's address or beyond its gateway, or the connection was dropped."""


class _Model(BaseModel):
    id: str
    root: str | None = None
    owned_by: str | None = None


class _Models(BaseModel):
    data: list[_Model]


@dataclass(frozen=True, slots=True)
class Absence:
    """A time in which no server answers at an address.

    Attributes:
        error: The first request that did not get through.
        since: When that was, by `time.monotonic`.
        over: Set when the server answers again.
    """

    error: UnreachableError
    since: float = field(default_factory=time.monotonic)
    over: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class _Session:
    """What belongs to one event loop: connections cannot outlive it."""

    client: openai.AsyncOpenAI
    places: asyncio.Semaphore
    closing: asyncio.Task[None]
    absence: Absence | None = None
    watch: asyncio.Task[None] | None = None


class Server:
    """Asks one server.

    Args:
        url: Its address, up to and with `/v1` where it has that.
        key: The secret it asks for, empty for none; never shown.
        timeout: Seconds one try of a request may take.
        max_retries: Further tries after a rate limit, a server error, a timeout or a lost connection.
        connections: Requests in flight at most.
        prefix: Put before the names of arguments in messages: a PRM's are typed with `prm_`.
        rank: Which of several engines at the address to ask, None to leave the choice to the server.

    Attributes:
        clock: Measures the requests. The servers of one model share a clock.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        timeout: float,
        max_retries: int,
        connections: int,
        prefix: str = "",
        rank: int | None = None,
    ) -> None:
        self.name = f"`{prefix}base_url={url}`"
        self.url = url
        self.checks = Checks(url)
        self.clock = PhaseClock()
        self._key = key
        self._timeout = timeout
        self._max_retries = max_retries
        self._connections = connections
        self._prefix = prefix
        self._headers = {} if rank is None else {_RANK: str(rank)}
        self.reached = False
        self._pictures = Pictures(self._is_vllm)
        self._sessions: dict[asyncio.AbstractEventLoop, _Session] = {}

    async def post(self, path: str, body: Mapping[str, Any]) -> str:
        """Sends one request and returns the reply as text. A picture is sent once to a server that keeps it.

        Raises:
            openai.BadRequestError: HTTP 400; like the next two the caller's to explain.
            openai.UnprocessableEntityError: HTTP 422.
            openai.NotFoundError: HTTP 404.
            UnreachableError: It cannot be reached.
            ServerError: It fails, hangs or refuses the key.
        """
        return await self._pictures.send(body, partial(self._post, path))

    async def _post(self, path: str, body: Mapping[str, Any]) -> str:
        import openai

        try:
            async with self._session().places:
                with self.clock.request(body.get("n", 1)):
                    reply = await self._tried(path, body)
        except (openai.BadRequestError, openai.UnprocessableEntityError, openai.NotFoundError):
            raise
        except (openai.OpenAIError, TimeoutError) as error:
            raise self._fault(error, path) from None
        self.reached = True
        return reply

    @property
    def absence(self) -> Absence | None:
        """The absence that lasts; None while the server is there, as far as is known."""
        return self._session().absence

    async def lost(self, error: UnreachableError) -> None:
        """Looks whether the server still answers, after a request that did not get through.

        If not, the server is away: it is tried again in the background until it answers.
        """
        session = self._session()
        if session.absence is None and not await self._answers() and session.absence is None:
            log.warning("%s went away: it is tried every %g s until it is back", self.url, _AGAIN)
            session.absence = Absence(error)
            session.watch = asyncio.create_task(self._watch(session, session.absence))

    async def _watch(self, session: _Session, absence: Absence) -> None:
        while True:
            await asyncio.sleep(_AGAIN)
            if await self._answers():
                break
        log.warning("%s is back after %.0f s", self.url, time.monotonic() - absence.since)
        session.absence = None
        absence.over.set()

    async def _answers(self) -> bool:
        """Returns whether anybody is at the server's address: the server, not a gateway that cannot reach it."""
        import openai

        from atomthink_plugin.servers.http_client import bounded, refusal

        try:
            async with asyncio.timeout(_CONNECT):
                with bounded(_LIST):
                    await self._session().client.get("/models", cast_to=str)
        except openai.APIStatusError as error:
            return error.status_code not in _GATEWAY
        except (openai.OpenAIError, TimeoutError) as error:
            return refusal(error) is not None
        return True

    async def _tried(self, path: str, body: Mapping[str, Any]) -> str:
        """Sends one request, again where another try may help."""
        import openai

        from atomthink_plugin.servers.http_client import refusal

        tried = 0
        while True:
            if absence := self._session().absence:  # others found out while this request waited
                raise UnreachableError(str(absence.error))
            try:
                return await self._send(path, body)
            except (openai.APIConnectionError, openai.APIStatusError, TimeoutError) as error:
                pause = pause_after(error, tried)
                if tried == self._max_retries or pause is None or refusal(error):
                    raise
            tried += 1
            await asyncio.sleep(pause)

    async def _send(self, path: str, body: Mapping[str, Any]) -> str:
        """Sends one request once."""
        from atomthink_plugin.servers.http_client import bounded, largest_reply

        # The library's own timeout begins again with every byte that arrives.
        async with asyncio.timeout(self._timeout):
            with bounded(largest_reply(body)):
                client = self._session().client
                return await client.post(path, cast_to=str, body=body, options={"headers": self._headers})

    async def models(self) -> list[str]:
        """Returns the names of the models that the server lists, none if it has no list."""
        return [model.id for model in await self._listed()]

    async def checkpoint(self, model: str) -> str | None:
        """Returns the folder or hub id that the server loaded a model from, None if it does not report it.

        vLLM reports it as `root`. Other servers repeat the name there, which may be of the user's choice.
        """
        roots = (listed.root for listed in await self._listed() if listed.id == model)
        return next((root for root in roots if root is not None and "/" in root), None)

    async def _is_vllm(self) -> bool:
        return any(listed.owned_by == "vllm" for listed in await self._listed())

    async def _listed(self) -> list[_Model]:
        import openai

        from atomthink_plugin.servers.http_client import bounded

        with suppress(openai.OpenAIError, ValidationError), bounded(_LIST):
            listed = await self._session().client.get("/models", cast_to=str)
            return _Models.model_validate_json(listed).data
        return []

    def message(self, error: openai.APIStatusError) -> str:
        """Returns the server's error message, shortened and with secrets redacted."""
        body = error.body
        return self.quote(str(body.get("message", body) if isinstance(body, dict) else error.message))

    def quote(self, text: str) -> str:
        """Returns text from the server, shortened and with secrets redacted."""
        return printable(" ".join(text[: 20 * _QUOTED].split()))[:_QUOTED]

    def _fault(self, error: Exception, path: str) -> ServerError:
        """Says what went wrong and which argument to change; the key is never part of it.

        Args:
            error: How the last try failed.
            path: As in `post`.
        """
        import openai

        from atomthink_plugin.servers.http_client import OversizeError, RedirectError, refusal

        tried = f"also after `{self._prefix}max_retries={self._max_retries}`"
        if unsent(error) or (isinstance(error, openai.APIStatusError) and error.status_code in _GATEWAY):
            return self._unreachable(error, tried)
        match refusal(error):
            case OversizeError() as oversize:
                return ServerError(
                    f"{self.name} gave a reply of {oversize}, which is not a reply to the request: look at the "
                    "server's log"
                )
            case RedirectError(location=location):
                route = path.removeprefix(self.url.rstrip("/").removesuffix("/v1"))
                address = location.rstrip("/").removesuffix(route)
                return ServerError(
                    f"{self.name} redirects a request to another address, which is not followed: if that one is to be "
                    f"trusted with the questions, pass it as `{self._prefix}base_url=` ({self.quote(address)})"
                )
        match error:
            case openai.AuthenticationError() | openai.PermissionDeniedError():
                # Its words may repeat a part of the key.
                held = f"the key in the environment variable {KEY}" if self._key else "a request without a key"
                return ServerError(
                    f"{self.name} refuses {held} (HTTP {error.status_code}): set {KEY} to one it accepts"
                )
            case openai.APIStatusError():
                return ServerError(
                    f"{self.name} fails (HTTP {error.status_code}: {self.message(error)}), {tried}: look at the "
                    f"server's log, or raise {self._prefix}max_retries="
                )
            case openai.APITimeoutError() | TimeoutError():
                return ServerError(
                    f"{self.name} gave no reply within `{self._prefix}timeout={self._timeout:g}` seconds, {tried}: "
                    f"look whether it hangs, or raise {self._prefix}timeout="
                )
        return self._unreachable(error, tried)

    def _unreachable(self, error: Exception, tried: str) -> UnreachableError:
        import openai

        if isinstance(error, openai.APIStatusError):
            return UnreachableError(
                f"{self.name} is away or overloaded (HTTP {error.status_code}: {self.message(error)}), {tried}: start "
                f"the server, or raise {self._prefix}max_retries="
            )
        cause = error.__cause__ or error
        reason = self.quote(str(cause)) or type(cause).__name__  # timeouts often have no text
        return UnreachableError(
            f"{self.name} cannot be reached ({reason}), {tried}: start the server, or correct the address"
        )

    def _session(self) -> _Session:
        """Returns this loop's connections; they are closed when the loop's last tasks are cancelled."""
        import openai

        from atomthink_plugin.servers.http_client import BoundedClient

        loop = asyncio.get_running_loop()
        if loop not in self._sessions:
            client = openai.AsyncOpenAI(
                http_client=BoundedClient(),
                base_url=self.url,
                api_key=self._key or "none",  # the library insists on one
                # Shorter than the timeout of a try, so that a request that was never sent ends as a failed connection.
                timeout=openai.Timeout(self._timeout, connect=min(0.9 * self._timeout, _CONNECT)),
                max_retries=0,  # `_tried` does, and knows when another try is of no use
            )
            closing = loop.create_task(self._close(loop, client))
            self._sessions[loop] = _Session(client, asyncio.Semaphore(self._connections), closing)
        return self._sessions[loop]

    async def _close(self, loop: asyncio.AbstractEventLoop, client: openai.AsyncOpenAI) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            del self._sessions[loop]
            await client.close()


def unsent(error: Exception) -> bool:
    """Returns whether the error shows that the request was never sent."""
    return type(error.__cause__).__name__ in _UNSENT


def key() -> str:
    """Returns the servers' key from the environment, empty for none.

    Raises:
        AtomThinkError: It cannot be one.
    """
    value = os.environ.get(KEY, "").strip()
    if not (value.isascii() and value.isprintable()):
        raise AtomThinkError(f"{KEY} in the environment holds characters that no key has: set it again, or unset it")
    remember({KEY: value})  # the client keeps the key even if the environment changes
    return value


def addresses(base_url: str, prefix: str = "") -> list[str]:
    """Splits and checks an argument `base_url`; what may be a secret is not repeated in an error.

    Raises:
        AtomThinkError: One of them is no address, or holds more than one.
    """
    argument = f"{prefix}base_url"
    urls = [url.strip() for url in base_url.split(";") if url.strip()]
    for url in urls:
        try:
            parts = urlsplit(url)
            _ = parts.port  # it is read only here
        except ValueError as error:
            raise AtomThinkError(
                f"`{argument}=` holds an address that cannot be read ({error}): pass one like http://localhost:8000/v1"
            ) from error
        if parts.username or parts.password or parts.query or parts.fragment:
            raise AtomThinkError(
                f"`{argument}=` for {parts.hostname} holds a user, a password or a query: an address ends with its "
                f"path (https://HOST/v1), and the key belongs in the environment variable {KEY}"
            )
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise AtomThinkError(f"`{argument}={url}` is no address: pass one like http://localhost:8000/v1")
    if not urls:
        raise AtomThinkError(f"`{argument}={base_url}` names no server: pass one like http://localhost:8000/v1")
    return urls
