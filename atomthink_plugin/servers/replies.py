"""Checks the metadata of a server's replies: the model and the token counts."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import BaseModel, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

log = logging.getLogger(__name__)

_NONSENSE: Final = -1
"""Stands for a count that is no number, and is as impossible."""

_HIDDEN: Final = 65_536
"""Prompt tokens at most beside the text that was sent: chat templates and system prompts of hosted models."""

_IMAGE: Final = 65_536
"""Prompt tokens of one image at most: four times those of the largest that Qwen3-VL reads."""

_DATE: Final = re.compile(r"[-@:]\d{3,}(-\d\d)*\Z")
"""What hosted servers add to the name of a model: `-2024-08-06`, `-0613`, `-001`."""

_LATEST: Final = re.compile(r"[-:]latest\Z")
"""What names the newest version of a model: `claude-3-5-sonnet-latest`, and `llama3.2:latest` in Ollama's replies."""


def _number(value: Any, handler: ValidatorFunctionWrapHandler) -> int | None:
    try:
        number: int | None = handler(value)
    except ValidationError:
        return _NONSENSE
    return number


def _or_none(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    try:
        return handler(value)
    except ValidationError:
        return None


_Number = Annotated[int | None, WrapValidator(_number)]


class _Details(BaseModel):
    cached_tokens: _Number = None


class Claim(BaseModel):
    """The `usage` of a reply as it came."""

    prompt_tokens: _Number = None
    completion_tokens: _Number = None
    prompt_tokens_details: Annotated[_Details | None, WrapValidator(_or_none)] = None


class ServerReply(BaseModel):
    """The fields that all replies have. A wrong value in one of them does not make the reply unusable.

    Attributes:
        model: The model that replied.
        usage: What the server counted.
    """

    model: Annotated[str | None, WrapValidator(_or_none)] = None
    usage: Annotated[Claim | None, WrapValidator(_or_none)] = None


@dataclass(frozen=True, slots=True)
class Counts:
    """What a request cost, as far as it is known.

    Attributes:
        prompt: Tokens of the prompt, once for all samples.
        cached: Those of them that came from the server's prefix cache.
        completion: Tokens of all samples; None where the server gives no count that can be right.
    """

    prompt: int = 0
    cached: int = 0
    completion: int | None = None


class Checks:
    """Checks what one server says about its replies. Each kind of fault is reported once.

    Args:
        url: The server's address.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._reported: set[str] = set()

    def model(self, asked: str, reply: ServerReply) -> None:
        """Reports that another model replied than was asked for."""
        if reply.model and not same_model(asked, reply.model):
            self._report("model", f"was asked for the model {asked!r} and replied as {reply.model[:200]!r}")

    def counts(self, reply: ServerReply, body: Mapping[str, Any], sizes: list[int]) -> Counts:
        """Returns what the server counted; a count that cannot be right is reported and left out.

        Args:
            reply: The reply.
            body: What was asked.
            sizes: Bytes of each sample in the reply.
        """
        claim = reply.usage or Claim()
        prompt = self._count("prompt_tokens", claim.prompt_tokens, 0, most_prompt(body))
        # A server may ignore the limit, but a token that is not in the text may not exceed it. One may end the sample.
        limit = body.get("max_tokens") or body.get("max_completion_tokens") or 0
        most = sum(max(limit, size) + 1 for size in [*sizes, *[0] * (body.get("n", 1) - len(sizes))])
        completion = self._count("completion_tokens", claim.completion_tokens, int(any(sizes)), most)
        details = claim.prompt_tokens_details or _Details()
        cached = self._count("cached_tokens", details.cached_tokens, 0, most_prompt(body))
        return Counts(prompt or 0, min(cached or 0, prompt or 0), completion)

    def _count(self, name: str, count: int | None, least: int, most: int) -> int | None:
        if count is None or least <= count <= most:
            return count
        self._report(name, f"counts {str(count)[:20]} as {name}, {least} to {most} are possible: it is not used")
        return None

    def _report(self, kind: str, fault: str) -> None:
        if kind not in self._reported:
            self._reported.add(kind)
            log.warning("%s %s", self._url, fault)


def same_model(asked: str, replied: str) -> bool:
    """Whether two names may be one model's: servers add a date or `latest`, or leave out who published it."""
    asked, replied = (_LATEST.sub("", name.casefold()) for name in (asked, replied))
    pairs = ((asked, replied), (_DATE.sub("", asked), replied), (asked, _DATE.sub("", replied)))
    return any(one == other or one.endswith(f"/{other}") or other.endswith(f"/{one}") for one, other in pairs)


def most_prompt(body: Mapping[str, Any]) -> int:
    """Returns how many tokens the prompt of a request can have: one for each byte, and generous room for the rest."""
    ids = body.get("prompt") or body.get("input") or body.get("token_ids") or ()
    size, images = content_of(body)
    return len(ids) + size + _HIDDEN + _IMAGE * images


def content_of(body: Mapping[str, Any]) -> tuple[int, int]:
    """Returns the bytes of text in a request's messages, and the number of their images."""
    contents = [turn["content"] for turn in body.get("messages", ())]
    parts = [part for content in contents if not isinstance(content, str) for part in content]
    texts = [content for content in contents if isinstance(content, str)]
    texts += [part["text"] for part in parts if part["type"] == "text"]
    images = sum(part["type"] == "image_url" for part in (*parts, *(body.get("content_parts") or ())))
    return sum(len(text.encode("utf-8", "replace")) for text in texts), images
