"""The HTTP client for servers: it bounds replies while they are read, and follows no redirect to another server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

import openai

if TYPE_CHECKING:
    import httpx2  # the client library has one of two packages, by its version

_FLOOR: Final = 2**20
"""Bytes that every reply may have."""

_TOKEN: Final = 256
"""Bytes of a generated token at most, on average over a reply."""

_TOKEN_WITH_LOGPROB: Final = 1024
"""Likewise with its log-probability and its list of bytes: 128 spaces are 750, most tokens 110."""

_REDIRECTS: Final = 3
"""Redirects that one request follows at most."""

_limit: ContextVar[int] = ContextVar("limit", default=_FLOOR)


class OversizeError(openai.OpenAIError):
    """A reply has more bytes than one to this request can have."""


class RedirectError(openai.OpenAIError):
    """The request was redirected to another server, or in a way that drops its content.

    Args:
        location: Where to.
    """

    def __init__(self, location: str) -> None:
        super().__init__(location)
        self.location = location


class BoundedClient(openai.DefaultAsyncHttpxClient):
    """Reads at most as many bytes of a reply as `bounded` allows, decompressed ones."""

    async def send(self, request: httpx2.Request, *, stream: bool = False, **options: Any) -> httpx2.Response:
        """Sends a request and reads the reply.

        Raises:
            OversizeError: The reply is too large.
            RedirectError: It is a redirect that is not followed.
        """
        response = await self._followed(request, options | {"follow_redirects": False})
        try:
            content = bytearray()
            async for chunk in response.aiter_bytes():
                content += chunk
                if len(content) > _limit.get():
                    raise OversizeError(f"more than {_limit.get()} bytes")
        finally:
            await response.aclose()
        # The protocol is JSON in UTF-8. A server may name any of Python's codecs: some are slow, some give no text.
        named = ("content-encoding", "content-type")
        headers = [(name, value) for name, value in response.headers.multi_items() if name not in named]
        headers.append(("content-type", "application/json; charset=utf-8"))
        return type(response)(response.status_code, headers=headers, content=bytes(content), request=response.request)

    async def _followed(self, request: httpx2.Request, options: Mapping[str, Any]) -> httpx2.Response:
        """Follows redirects that stay at scheme, host and port and repeat the request as it is."""
        for _ in range(_REDIRECTS):
            response = await super().send(request, stream=True, **options)
            following = response.next_request
            if following is None:
                return response
            await response.aclose()
            if _place(following) != _place(request):
                raise RedirectError(str(following.url))
            request = following
        raise RedirectError(str(request.url))


def _place(request: httpx2.Request) -> tuple[str, str, str, int | None]:
    return request.method, request.url.scheme, request.url.host, request.url.port


@contextmanager
def bounded(size: int) -> Iterator[None]:
    """Bounds the bytes of replies to the requests that are sent within."""
    token = _limit.set(size)
    try:
        yield
    finally:
        _limit.reset(token)


def largest_reply(body: Mapping[str, Any]) -> int:
    """Returns how many bytes a reply to this request can have."""
    tokens = body.get("max_tokens") or body.get("max_completion_tokens") or 0
    each = _TOKEN_WITH_LOGPROB if body.get("logprobs") else _TOKEN
    each *= 1 + body.get("top_logprobs", 0)  # each of the likeliest tokens is written as the sampled one is
    return _FLOOR + int(body.get("n", 1) * tokens * each)


def refusal(error: BaseException) -> OversizeError | RedirectError | None:
    """Returns what this client raised, which older versions of the library wrap; None where it was another error."""
    for one in (error, error.__cause__):
        if isinstance(one, (OversizeError, RedirectError)):
            return one
    return None
