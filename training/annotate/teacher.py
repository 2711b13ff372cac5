"""A teacher: a language model on an OpenAI-compatible server that gives structured replies."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from atomthink_plugin.api import AtomThinkError, Message, QuestionError
from atomthink_plugin.json_rows import describe_error
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
from atomthink_plugin.training.annotate.budget import PaidServer, SpendingBudget
from atomthink_plugin.training.annotate.ledger import Ledger

log = logging.getLogger(__name__)

MAX_REPLIES: Final = 3
"""How often the teacher is asked for one structured reply before its replies count as unusable."""

OPENAI: Final = "https://api.openai.com/v1"

_QUOTED: Final = 200  # characters of a reply in an error
_OBJECTS: Final = 50  # braces of a reply at which a JSON object may begin

_FORMAT_REFUSED: Final = re.compile(r"response.?format|json|schema|grammar|guided|structured", re.IGNORECASE)
_THOUGHT: Final = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)
# A backslash that is no escape of JSON, or that begins a LaTeX command where JSON would read a line break or the like.
_LATEX: Final = re.compile(
    r"(?<!\\)\\(?=[^\"\\/bfnrtu]|u(?![0-9a-fA-F]{4})|(?:frac|forall|beta|begin|bar|bot|boxed|binom|big|times|theta|text|tan|tau"
    r"|to|top|triangle|tfrac|rho|right|neq|ne(?! *=)|nabla|nu|not)(?![a-z]))"
)


class NoReplyError(QuestionError):
    """The server gave no reply. Another run may get one."""


class UnusableReplyError(QuestionError):
    """No reply of the teacher has the structure that was asked for."""


class TeacherReply(BaseModel):
    """A structured reply. Its fields, its title and its docstring are sent to the server as the JSON schema."""

    model_config = ConfigDict(frozen=True, extra="ignore", coerce_numbers_to_str=True)


R = TypeVar("R", bound=TeacherReply)


@dataclass(frozen=True, slots=True)
class _StructuredRequest(ChatRequest):
    """A request for JSON, with the `response_format` of the protocol; None for servers without any."""

    format: Mapping[str, Any] | None = None

    @property
    def body(self) -> dict[str, Any]:
        """The request as the protocol writes it."""
        body = super(_StructuredRequest, self).body
        return body if self.format is None else {**body, "response_format": self.format}


@dataclass
class Teacher:
    """Asks for structured replies.

    If the server refuses JSON schemas, the teacher is asked for any JSON, and then for plain text. `servers` waits for
    the server of the endpoint while it restarts. The ledger has the replies of earlier runs.
    """

    model: str
    endpoint: Endpoint
    servers: Servers
    ledger: Ledger | None = None
    argument: str = "--teacher-model"
    # Without names: the ledger finds replies by the request.
    _turns: ChatTurns = field(default_factory=partial(ChatTurns, named=False))
    _format: int = 0

    async def ask(
        self,
        question: str,
        messages: Sequence[Message],
        kind: type[R],
        *,
        temperature: float = 0.0,
        seed: int = 0,
        max_tokens: int = 512,
    ) -> R:
        """Returns a structured reply of the class `kind`. The ledger files it under the key of the question.

        Servers that ignore the seed give different samples by chance only.

        Raises:
            UnusableReplyError: No reply can be used.
            NoReplyError: The server gave none.
            LimitError: The request might cost more than is left of the budget.
            QuestionError: The server refuses the request.
            AtomThinkError: The server does not have the model.
        """
        first = turns = self._turns(messages)
        fault = ""
        for attempt in range(MAX_REPLIES):
            request = _StructuredRequest(turns, max_tokens=max_tokens, temperature=temperature, seed=seed + attempt)
            text = await self._text(question, request, kind)
            try:
                return parse_reply(text, kind)
            except ValueError as error:
                fault = str(error)
            correction = f"That cannot be used ({fault}). Reply with the JSON object only."
            turns = (*first, {"role": "assistant", "content": text or "{}"}, {"role": "user", "content": correction})
        raise UnusableReplyError(f"no usable reply in {MAX_REPLIES}: {fault}: {' '.join(text.split())[:_QUOTED]!r}")

    async def _text(self, question: str, request: _StructuredRequest, kind: type[TeacherReply]) -> str:
        """Returns the reply to one request; from the ledger if an earlier run got it."""
        content = json.dumps({"model": self.model, "kind": kind.model_json_schema(), **request.body}, sort_keys=True)
        digest = hashlib.blake2b(f"{question}\0{content}".encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
        stored = self.ledger.reply(question, digest) if self.ledger else None
        if stored is not None:
            return stored
        try:
            completion = await self._complete(request, kind)
        except RefusedError:
            raise
        except UnknownModelError as error:
            raise AtomThinkError(f"`{self.argument} {self.model}`: {error}") from None
        except QuestionError as error:
            raise NoReplyError(str(error)) from None
        text = redact(completion.samples[0].text)
        if self.ledger:
            self.ledger.add_reply(question, digest, text)
        return text

    async def _complete(self, request: _StructuredRequest, kind: type[TeacherReply]) -> ChatSamples:
        """Sends a request with the strictest `response_format` that the server takes."""
        formats = _response_formats(kind)
        while True:
            used = self._format
            try:
                return await self._send(replace(request, format=formats[used]))
            except ContextFullError:
                raise
            except RefusedError as error:
                if used == len(formats) - 1 or not _FORMAT_REFUSED.search(str(error)):
                    raise
                if used == self._format:  # requests in flight may be refused together
                    self._format += 1
                    log.warning("%s. From now on it is asked for %s", error, ("any JSON", "text")[used])

    async def _send(self, request: ChatRequest) -> ChatSamples:
        return await self.servers.ask("", lambda _: self.endpoint.complete(request))


def connect(
    model: str,
    base_url: str | None,
    budget: SpendingBudget,
    *,
    argument: str = "--teacher-model",
    connections: int = 16,
    timeout: float = 300.0,
    max_retries: int = 5,
    wait: float = 600.0,
) -> Teacher:
    """Returns a teacher, without sending anything yet. The key is the environment variable OPENAI_API_KEY.

    The budget pays each try of a request, and its ledger stores the replies. `timeout`, `max_retries` and `connections`
    are those of `Server`, `wait` is that of `Servers`. Without `base_url`, the server is OpenAI's. `argument` names the
    model in errors.

    Raises:
        AtomThinkError: The address or the key is malformed.
    """
    urls = addresses(base_url or OPENAI)
    if len(urls) > 1:
        raise AtomThinkError(f"`--base-url {base_url}` names {len(urls)} servers: pass one")
    server = PaidServer(urls[0], key(), budget, timeout=timeout, max_retries=max_retries, connections=connections)
    return Teacher(model, Endpoint(server, model, logprobs=False), Servers([server], wait), budget.ledger, argument)


def parse_reply(text: str, kind: type[R]) -> R:
    r"""Returns the JSON object in a reply. Text before and after it is ignored.

    Single backslashes of LaTeX are kept: JSON would read the `\f` of `\frac` as a form feed.

    Raises:
        ValueError: There is no such object, or it does not have the fields of `kind`.
    """
    text = _LATEX.sub(r"\\\\", _THOUGHT.sub("", text))
    decoder = json.JSONDecoder(strict=False)
    fault = "no JSON object"
    for start in islice((brace.start() for brace in re.finditer(r"\{", text)), _OBJECTS):
        try:
            found, _ = decoder.raw_decode(text, start)
            return kind.model_validate(found)
        except json.JSONDecodeError:
            continue
        except ValidationError as error:
            fault = describe_error(error)
        except RecursionError:
            fault = "nested too deep"
    raise ValueError(fault)


def _response_formats(kind: type[TeacherReply]) -> tuple[Mapping[str, Any] | None, ...]:
    """Returns the values of `response_format` for a structured reply, the strictest first."""
    schema = kind.model_json_schema()
    # OpenAI's strict mode wants every property required and no other allowed, at every level.
    for level in (schema, *schema.get("$defs", {}).values()):
        if level.get("type") == "object":
            level |= {"additionalProperties": False, "required": list(level["properties"])}
    by_schema = {"name": schema["title"], "strict": True, "schema": schema}
    return {"type": "json_schema", "json_schema": by_schema}, {"type": "json_object"}, None
