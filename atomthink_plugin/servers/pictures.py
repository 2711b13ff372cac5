"""Pictures travel to a vLLM server once: later requests name them.

vLLM keeps the pictures that it was sent, under the name in the part's `uuid`. A part with a name and no picture stands
for a picture that it keeps. Parts are in the turns of a chat, or in `content_parts` beside token ids.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final

NAME: Final = "uuid"
"""Field of an image part with its name."""

_FIELDS: Final = ("image_url", "url")
"""Fields with the picture, in the turns of a chat and in `content_parts`."""

_MISS: Final = re.compile(r"cache miss", re.IGNORECASE)
"""How vLLM says that it no longer keeps a picture."""

Body = Mapping[str, Any]
Post = Callable[[Body], Awaitable[str]]


class Pictures:
    """Sends requests with named pictures to one server.

    A server that is not vLLM, or refuses names, gets the pictures without names.

    Args:
        is_vllm: Returns whether the server is vLLM; called once, before the first picture.
    """

    def __init__(self, is_vllm: Callable[[], Awaitable[bool]]) -> None:
        self._is_vllm = is_vllm
        self._takes_names: bool | None = None
        self._took_name = self._took_name_alone = False
        self._kept: set[str] = set()

    async def send(self, body: Body, post: Post) -> str:
        """Sends a request.

        Args:
            body: The request, each picture with its name.
            post: Sends a request and returns the reply.

        Raises:
            openai.BadRequestError: The server refuses the request, as with the next one for another reason.
            openai.UnprocessableEntityError: As the first one.
        """
        import openai

        names = {part[NAME] for part in _pictures(body)}
        if not names:
            return await post(body)
        if self._takes_names is None:
            self._takes_names = await self._is_vllm()
        if not self._takes_names:
            return await post(_rewritten(body, _unnamed))
        if self._kept.isdisjoint(names):
            return await self._send_whole(body, names, post)
        try:
            reply = await post(_rewritten(body, lambda part: _name_alone(part, self._kept)))
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            missed = _MISS.search(str(error))
            if self._took_name_alone and not missed:
                raise
            self._kept -= names
            reply = await self._send_whole(body, names, post)
            self._takes_names = self._takes_names and bool(missed)
            return reply
        self._took_name_alone = True
        self._kept |= names
        return reply

    async def _send_whole(self, body: Body, names: Collection[str], post: Post) -> str:
        import openai

        try:
            reply = await post(body)
        except (openai.BadRequestError, openai.UnprocessableEntityError):
            if self._took_name:
                raise
            reply = await post(_rewritten(body, _unnamed))
            self._takes_names = False
            return reply
        self._took_name = True
        self._kept.update(names)
        return reply


def picture_name(url: str) -> str:
    """Returns the name of a picture.

    Args:
        url: Its data URL.
    """
    return hashlib.blake2b(url.encode(), digest_size=16).hexdigest()


def _pictures(body: Body) -> Iterator[Mapping[str, Any]]:
    lists = [turn["content"] for turn in body.get("messages", ()) if not isinstance(turn["content"], str)]
    for parts in (*lists, body.get("content_parts") or ()):
        yield from (part for part in parts if NAME in part)


def _rewritten(body: Body, change: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the request with each named picture changed."""

    def changed(parts: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        return [change(part) if NAME in part else part for part in parts]

    if "messages" not in body:
        return {**body, "content_parts": changed(body["content_parts"])}
    turns = [
        turn if isinstance(turn["content"], str) else {**turn, "content": changed(turn["content"])}
        for turn in body["messages"]
    ]
    return {**body, "messages": turns}


def _unnamed(part: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in part.items() if name != NAME}


def _name_alone(part: Mapping[str, Any], kept: Collection[str]) -> Mapping[str, Any]:
    if part[NAME] not in kept:
        return part
    return {name: None if name in _FIELDS else value for name, value in part.items()}
