"""A language model behind an OpenAI-compatible server that gives structured replies."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from atomthink_plugin.api import AtomThinkError, Message, QuestionError
from atomthink_plugin.redaction import redact
from atomthink_plugin.servers.chat_endpoint import (
    ChatRequest,
    ChatSamples,
    ContextFullError,
    Endpoint,
    RefusedError,
    UnknownModelError,
)
from atomthink_plugin.servers.chat_turns import ChatTurns
from atomthink_plugin.servers.openai_client import addresses, key
from atomthink_plugin.servers.pool import Servers
from atomthink_plugin.training.annotate.ledger import Ledger
from atomthink_plugin.training.annotate.meter import Meter
from atomthink_plugin.training.annotate.paying import PaidServer
from atomthink_plugin.training.records import describe_error

log = logging.getLogger(__name__)

READINGS: Final = 3
"""How often one thing is asked before a reply that cannot be used is the teacher's last word."""

OPENAI: Final = "https://api.openai.com/v1"

_SHOWN: Final = 200  # characters of a reply in an error
_OBJECTS: Final = 50  # braces of a reply at which an object is looked for

_REFUSED: Final = re.compile(r"response.?format|json|schema|grammar|guided|structured", re.IGNORECASE)
_THOUGHT: Final = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)
# A backslash that JSON knows nothing of, or that begins a command of LaTeX where JSON would read a line break.
_LATEX: Final = re.compile(
    r"(?<!\\)\\(?=[^\"\\/bfnrtu]|u(?![0-9a-fA-F]{4})|(?:frac|forall|beta|begin|bar|bot|boxed|binom|big|times|theta|text|tan|tau"
    r"|to|top|triangle|tfrac|rho|right|neq|ne(?! *=)|nabla|nu|not)(?![a-z]))"
)


class LostError(QuestionError):
    """The server gave no reply; the same question may do well in another run."""


class NonsenseError(QuestionError):
    """The teacher's replies cannot be used."""


class Reply(BaseModel):
    """What a teacher is to say; its fields are the structure of the reply."""

    model_config = ConfigDict(frozen=True, extra="ignore", coerce_numbers_to_str=True)


R = TypeVar("R", bound=Reply)


@dataclass(frozen=True, slots=True)
class _Structured(ChatRequest):
    """A request for JSON.

    Attributes:
        format: The protocol's `response_format`, None where the server has none.
    """

    format: Mapping[str, Any] | None = None

    @property
    def body(self) -> dict[str, Any]:
        """The request as the protocol writes it."""
        body = super(_Structured, self).body
        return body if self.format is None else {**body, "response_format": self.format}


@dataclass
class Teacher:
    """Asks for structured replies.

    A server that refuses JSON by a schema is asked for any JSON, then for text; whatever comes is read as
    leniently as it can be without guessing.

    Attributes:
        model: What the server calls it.
        endpoint: Where it is asked, and paid.
        servers: The endpoint's server alone; waits for it.
        ledger: Knows the replies of earlier runs; None to keep nothing.
    """

    model: str
    endpoint: Endpoint
    servers: Servers
    ledger: Ledger | None = None
    _turns: ChatTurns = field(default_factory=ChatTurns)
    _mode: int = 0

    async def ask(
        self,
        about: str,
        messages: Sequence[Message],
        kind: type[R],
        *,
        temperature: float = 0.0,
        seed: int = 0,
        max_tokens: int = 512,
    ) -> R:
        """Returns a reply of the kind that is asked for.

        Args:
            about: Key of the question this belongs to.
            messages: What is said; images in their places.
            kind: Structure of the reply.
            temperature: Of the sample.
            seed: Of the sample; where the server takes none, further draws differ by chance only.
            max_tokens: The most it may say.

        Raises:
            NonsenseError: No reply can be used.
            LostError: The server gave none.
            LimitError: It might cost more than is left to spend.
            QuestionError: The server refuses the request.
            AtomThinkError: The server does not have the model.
        """
        first = turns = self._turns(messages)
        fault = ""
        for attempt in range(READINGS):
            ask = _Structured(turns, max_tokens=max_tokens, temperature=temperature, seed=seed + attempt)
            text = await self._text(about, ask, kind)
            try:
                return read(text, kind)
            except ValueError as error:
                fault = str(error)
            again = f"That cannot be used ({fault}). Reply with the JSON object only."
            turns = (*first, {"role": "assistant", "content": text or "{}"}, {"role": "user", "content": again})
        raise NonsenseError(f"no usable reply in {READINGS}: {fault}: {' '.join(text.split())[:_SHOWN]!r}")

    async def _text(self, about: str, ask: _Structured, kind: type[Reply]) -> str:
        """Returns the reply to one request, from an earlier run if there was one."""
        asked = json.dumps({"model": self.model, "kind": kind.model_json_schema(), **ask.body}, sort_keys=True)
        request = hashlib.blake2b(f"{about}\0{asked}".encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
        known = self.ledger.reply(about, request) if self.ledger else None
        if known is not None:
            return known
        try:
            drawn = await self._drawn(ask, kind)
        except RefusedError:
            raise
        except UnknownModelError as error:
            raise AtomThinkError(f"`--teacher-model {self.model}`: {error}") from None
        except QuestionError as error:
            raise LostError(str(error)) from None
        text = redact(drawn.samples[0].text)
        if self.ledger:
            self.ledger.replied(about, request, text)
        return text

    async def _drawn(self, ask: _Structured, kind: type[Reply]) -> ChatSamples:
        formats = _formats(kind)
        while True:
            mode = self._mode
            try:
                return await self._completed(replace(ask, format=formats[mode]))
            except ContextFullError:
                raise
            except RefusedError as error:
                if mode == len(formats) - 1 or not _REFUSED.search(str(error)):
                    raise
                if mode == self._mode:
                    self._mode += 1
                    log.warning("%s: %s", error, "asked for any JSON" if self._mode == 1 else "asked for text")

    async def _completed(self, ask: ChatRequest) -> ChatSamples:
        return await self.servers.ask("", lambda _: self.endpoint.complete(ask))


def connect(
    model: str,
    base_url: str | None,
    meter: Meter,
    ledger: Ledger | None = None,
    *,
    connections: int = 16,
    timeout: float = 300.0,
    max_retries: int = 5,
    wait: float = 600.0,
) -> Teacher:
    """Returns a teacher; nothing is asked yet. The key is OPENAI_API_KEY of the environment.

    Args:
        model: What the server calls it.
        base_url: The server's address; OpenAI's own without.
        meter: Counts and limits what is spent.
        ledger: Where requests and replies are kept.
        connections: Requests in flight at most.
        timeout: Seconds one try of a request may take.
        max_retries: Further tries after a rate limit, a server error or a lost connection, each of them paid for.
        wait: Seconds to wait for a server that went away: it may be restarting. One that drops what it was sent is
            not waited for.

    Raises:
        AtomThinkError: The address or the key cannot be one.
    """
    urls = addresses(base_url or OPENAI)
    if len(urls) > 1:
        raise AtomThinkError(f"`--base-url {base_url}` names {len(urls)} servers: name one")
    server = PaidServer(
        urls[0], key(), meter, ledger, timeout=timeout, max_retries=max_retries, connections=connections
    )
    return Teacher(model, Endpoint(server, model, logprobs=False), Servers([server], wait), ledger)


def read(text: str, kind: type[R]) -> R:
    r"""Returns the JSON object in a reply, whatever stands around it.

    Backslashes of LaTeX that were not doubled are: JSON would read a form feed in `\frac`.

    Raises:
        ValueError: There is no such object, or it is not of that kind.
    """
    text = _LATEX.sub(r"\\\\", _THOUGHT.sub("", text))
    decoder = json.JSONDecoder(strict=False)
    fault = "no JSON object"
    for at in islice((found.start() for found in re.finditer(r"\{", text)), _OBJECTS):
        try:
            found, _ = decoder.raw_decode(text, at)
            return kind.model_validate(found)
        except json.JSONDecodeError:
            continue
        except (ValidationError, RecursionError) as error:
            fault = describe_error(error) if isinstance(error, ValidationError) else "nested too deep"
    raise ValueError(fault)


def _formats(kind: type[Reply]) -> tuple[Mapping[str, Any] | None, ...]:
    """Returns the ways to ask for a structure, the strictest first."""
    schema = kind.model_json_schema()
    # OpenAI's strict mode wants every property required and no other allowed, at every level.
    for level in (schema, *schema.get("$defs", {}).values()):
        if level.get("type") == "object":
            level |= {"additionalProperties": False, "required": list(level["properties"])}
    by_schema = {"name": kind.__name__, "strict": True, "schema": schema}
    return {"type": "json_schema", "json_schema": by_schema}, {"type": "json_object"}, None
