"""Chat completions of one OpenAI-compatible server.

Servers support different parts of the protocol, and some ignore what they do not support. Every reply is checked here;
a fault ends as a `QuestionError` that names the argument to change.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ValidationError

from atomthink_plugin.api import QuestionError, Usage
from atomthink_plugin.inference.text_samples import TextSample, watched_in
from atomthink_plugin.servers.chat_turns import Turn
from atomthink_plugin.servers.openai_client import Server
from atomthink_plugin.servers.replies import ServerReply

if TYPE_CHECKING:
    import openai  # at run time in the functions that ask: it takes a second, and every run looks at all policies

log = logging.getLogger(__name__)

_READINGS: Final = 3
"""How often a reply is asked for before one that cannot be read counts as the server's last word."""

_MOST_STOPS: Final = 4
"""Stop strings the protocol allows; the policy looks for all of them in what comes back."""

MOST_TOPS: Final = 20
"""Likeliest tokens at one position that the protocol allows to ask for."""

_BYTES_PER_TOKEN: Final = 4
"""Counts tokens where a server does not."""

_FULL: Final = re.compile(r"context[ _-]?(length|size|window)|maximum.{0,20}length|max_model_len", re.IGNORECASE)

_DISPENSABLE: Final = {
    "logprobs": "steps have no log-probabilities, so scorer=confidence fails and ties go to whichever was first",
    "seed": "samples are not reproducible",
}
"""What a request can do without, and what that costs."""


class RefusedError(QuestionError):
    """The server took the request for a wrong one (HTTP 400 or 422)."""


class UnknownModelError(QuestionError):
    """The server has no such model, or nothing at this address (HTTP 404)."""


class ContextFullError(RefusedError):
    """Prompt and wanted tokens are more than the model's context."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One request.

    Attributes:
        turns: The messages.
        prefix: Beginning of the assistant's turn.
        continued: Whether the reply continues the prefix; otherwise it is a turn of its own after it.
        stops: Strings that end the reply.
        max_tokens: Token limit of the reply.
        temperature: 0 is greedy, and `top_p`, `top_k` and `seed` are not sent.
        top_p: Nucleus kept.
        top_k: Tokens kept, 0 for all.
        seed: Of the sample, or of the first of several.
        n: Samples.
        tops: How many of the likeliest tokens to report at each position; 0 for none.
        watch: Texts of tokens to look for among the likeliest first tokens.
    """

    turns: tuple[Turn, ...]
    prefix: str = ""
    continued: bool = True
    stops: tuple[str, ...] = ()
    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    n: int = 1
    tops: int = 0
    watch: tuple[str, ...] = ()

    @property
    def body(self) -> dict[str, Any]:
        """The request as the protocol writes it, without the model's name."""
        body: dict[str, Any] = {"messages": list(self.turns), "temperature": self.temperature}
        body["max_tokens"] = self.max_tokens
        if self.prefix:
            body["messages"].append({"role": "assistant", "content": self.prefix})
        if self.prefix and self.continued:
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        if self.stops:
            body["stop"] = list(self.stops[:_MOST_STOPS])
        if self.n > 1:
            body["n"] = self.n
        if self.temperature > 0:
            # Sent even where it cuts nothing: vLLM would use the checkpoint's own default instead.
            body |= {"top_p": self.top_p, "seed": self.seed}
            body |= {"top_k": self.top_k} if self.top_k else {}
        if self.tops:
            # One more than is needed: vLLM lists the sampled token first, in the place of the least likely one.
            body["top_logprobs"] = min(self.tops + 1, MOST_TOPS)
        if self.watch:
            body["top_logprobs"] = MOST_TOPS
        return body

    @property
    def images(self) -> int:
        """Images among the messages."""
        parts = (part for turn in self.turns if not isinstance(turn["content"], str) for part in turn["content"])
        return sum(part["type"] == "image_url" for part in parts)


@dataclass(frozen=True, slots=True)
class ChatSamples:
    """Samples in the order of their seeds, and the cost of all requests for them."""

    samples: tuple[TextSample, ...] = ()
    usage: Usage = field(default_factory=Usage)


class _Top(BaseModel):
    token: str = ""
    logprob: float


class _Piece(BaseModel):
    token: str
    logprob: float
    bytes: list[int] | None = None
    top_logprobs: list[_Top] | None = None


class _Pieces(BaseModel):
    content: list[_Piece] | None = None


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    index: int = 0
    message: _Message
    finish_reason: str | None = None
    logprobs: _Pieces | None = None


class _Completion(ServerReply):
    """The parts of a reply that are used; servers leave out or add others."""

    choices: list[_Choice]


class Endpoint:
    """Asks one server for chat completions.

    Args:
        server: The server.
        model: What it calls the model.
        logprobs: Whether to ask for log-probabilities.
    """

    def __init__(self, server: Server, model: str, *, logprobs: bool) -> None:
        self.name = server.name
        self.server = server
        self._model = model
        self._left_out = set() if logprobs else {"logprobs"}
        self._limit_name = "max_tokens"
        self._several = True

    async def draw(self, ask: ChatRequest, seeds: Sequence[int | None]) -> ChatSamples:
        """Returns one sample for each seed, in their order.

        Several are asked for as one `n=`, drawn from the first seed; those the server does not give are asked
        for one by one, each with its own, and so are all from then on.

        Raises:
            QuestionError: The server cannot be asked this, or does not answer in a way that can be read.
        """
        together = await self._together(ask, seeds) if len(seeds) > 1 and self._several else ChatSamples()
        rest = seeds[len(together.samples) :]
        singles = await asyncio.gather(*(self.complete(replace(ask, seed=seed)) for seed in rest))
        if rest and len(seeds) > 1:
            self._several = False
        return await self._past_blanks(ask, seeds, _sum([together, *singles]))

    async def _together(self, ask: ChatRequest, seeds: Sequence[int | None]) -> ChatSamples:
        try:
            return await self.complete(replace(ask, seed=seeds[0], n=len(seeds)))
        except ContextFullError:
            raise
        except RefusedError:
            return ChatSamples()  # single requests show whether `n` was the reason

    async def _past_blanks(self, ask: ChatRequest, seeds: Sequence[int | None], drawn: ChatSamples) -> ChatSamples:
        """Draws samples that ended at a blank line before they began again, without that stop string."""
        visible = tuple(stop for stop in ask.stops if stop.strip())
        blank = [at for at, sample in enumerate(drawn.samples) if sample.blank]
        if visible == ask.stops or not blank:
            return drawn
        ask = replace(ask, stops=visible)
        again = await asyncio.gather(*(self.complete(replace(ask, seed=seeds[at])) for at in blank))
        replaced = {at: one.samples[0] for at, one in zip(blank, again, strict=True)}
        samples = tuple(replaced.get(at, sample) for at, sample in enumerate(drawn.samples))
        return ChatSamples(samples, _sum([drawn, *again]).usage)

    async def complete(self, ask: ChatRequest) -> ChatSamples:
        """Sends one request and returns its samples: at least one, at most `ask.n`.

        Raises:
            QuestionError: As `draw`.
        """
        fault = ""
        for _ in range(_READINGS):
            reply = await self._post(ask)
            try:
                completion = _Completion.model_validate_json(reply)
            except ValidationError:
                fault = f"a reply that is no chat completion ({self.server.quote(reply)})"
            else:
                if completion.choices:
                    return self._drawn(ask, completion)
                fault = "a reply without choices"
        raise QuestionError(f"{self.name} gave {fault}, {_READINGS} times in a row: look at the server's log")

    def _drawn(self, ask: ChatRequest, completion: _Completion) -> ChatSamples:
        choices = sorted(completion.choices, key=lambda choice: choice.index)[: ask.n]
        if "logprobs" not in self._left_out and not any(choice.logprobs for choice in choices):
            self._leave_out("logprobs", "gives none")
        if ask.tops and not all(map(_has_tops, choices)):
            raise self._without_tops(ask, "and the reply has none")
        self.server.checks.model(self._model, completion)
        sizes = [len((choice.message.content or "").encode()) for choice in completion.choices]
        counts = self.server.checks.counts(completion, ask.body, sizes)
        samples = tuple(_samples(choices, counts.completion, ask))
        usage = Usage(
            generated=sum(sample.tokens for sample in samples) if counts.completion is None else counts.completion,
            prefilled=counts.prompt - counts.cached,
            cached=counts.cached,
            images=ask.images,
        )
        return ChatSamples(samples, usage)

    async def _post(self, ask: ChatRequest) -> str:
        """Returns the reply as text, without what the server has turned out to refuse."""
        import openai

        while True:
            body = self._body(ask)
            try:
                return await self.server.post("/chat/completions", body)
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                refused = self._refused(error)
                if isinstance(refused, ContextFullError) or not self._adapts(error, body):
                    raise refused from None
            except openai.NotFoundError as error:
                raise UnknownModelError(
                    f"{self.name} has no model `pretrained={self._model}` (HTTP 404: {self.server.message(error)}): "
                    "name one it serves, and mind that most addresses end in /v1"
                ) from None

    def _body(self, ask: ChatRequest) -> dict[str, Any]:
        if ask.tops and "logprobs" in self._left_out:
            raise self._without_tops(ask, "which is asked without `logprobs`")
        body = {"model": self._model, **ask.body, "logprobs": True}
        body[self._limit_name] = body.pop("max_tokens")
        if "logprobs" in self._left_out:
            body.pop("top_logprobs", None)
        return {name: value for name, value in body.items() if name not in self._left_out}

    def _adapts(self, error: openai.APIStatusError, sent: Mapping[str, Any]) -> bool:
        """Whether to repeat the request without the refused fields, or with other names for them."""
        if error.param == "max_tokens" and error.code == "unsupported_parameter":
            self._limit_name = "max_completion_tokens"  # OpenAI's newer models have no other
            return "max_tokens" in sent
        message = f"{error.param} {error.message}".casefold()
        refused = [name for name in _DISPENSABLE if name in sent and re.search(rf"\b{name}\b", message)]
        for name in refused:
            self._leave_out(name, f"refuses them ({self.server.message(error)})")
        return bool(refused)

    def _leave_out(self, name: str, why: str) -> None:
        if name not in self._left_out:
            self._left_out.add(name)
            log.warning("%s is asked without %s, it %s: %s", self.server.url, name, why, _DISPENSABLE[name])

    def _without_tops(self, ask: ChatRequest, why: str) -> QuestionError:
        return QuestionError(
            f"{self.name}: this search needs the log-probabilities of the {ask.tops} likeliest tokens, {why}: name a "
            "server that gives `top_logprobs`, leave out `logprobs=False`, pass `prm=` to `search=mcts`, or choose "
            "another search"
        )

    def _refused(self, error: openai.APIStatusError) -> RefusedError:
        message = self.server.message(error)
        kind = ContextFullError if _FULL.search(f"{error.code} {message}") else RefusedError
        return kind(f"{self.name} refuses the request (HTTP {error.status_code}): {message}")


def _sum(drawn: Sequence[ChatSamples]) -> ChatSamples:
    samples = tuple(itertools.chain.from_iterable(one.samples for one in drawn))
    return ChatSamples(samples, sum((one.usage for one in drawn), Usage()))


def _pieces(choice: _Choice) -> list[_Piece]:
    return (choice.logprobs.content if choice.logprobs else None) or []


def _has_tops(choice: _Choice) -> bool:
    content = _pieces(choice)
    return all(piece.top_logprobs for piece in content) and bool(content or not choice.message.content)


def _tops(content: Sequence[_Piece], count: int) -> tuple[tuple[float, ...], ...]:
    """Returns each token's log-probability and those of the `count` likeliest; servers differ in their order."""
    found = []
    for piece in content:
        likeliest = sorted((top.logprob for top in piece.top_logprobs or ()), reverse=True)
        found.append((piece.logprob, *likeliest[:count]))
    return tuple(found)


def _samples(choices: Sequence[_Choice], generated: int | None, ask: ChatRequest) -> Iterator[TextSample]:
    """Counts each choice's tokens: by its log-probabilities, else by its share of all, else by its length."""
    texts = [choice.message.content or "" for choice in choices]
    everything = sum(len(text.encode()) for text in texts)
    for choice, text in zip(choices, texts, strict=True):
        content = _pieces(choice)
        pieces = tuple((_size(piece), piece.logprob) for piece in content)
        size = len(text.encode())
        if pieces:
            tokens = len(pieces)
        elif generated is None:
            tokens = ask.max_tokens if choice.finish_reason == "length" else math.ceil(size / _BYTES_PER_TOKEN)
        else:
            tokens = math.ceil(generated * size / everything) if everything else math.ceil(generated / len(choices))
        tops = _tops(content, ask.tops) if ask.tops else ()
        watched = watched_in(_first_tokens(content), ask.watch) if ask.watch else ()
        yield TextSample(text, choice.finish_reason or "stop", tokens, pieces, tops, watched)


def _first_tokens(content: Sequence[_Piece]) -> dict[str, float]:
    """Returns the likeliest first tokens with their log-probabilities, the sampled one included."""
    if not content:
        return {}
    listed = {top.token: top.logprob for top in content[0].top_logprobs or ()}
    return listed | {content[0].token: content[0].logprob} if listed else {}


def _size(piece: _Piece) -> int:
    return len(piece.token.encode() if piece.bytes is None else piece.bytes)
