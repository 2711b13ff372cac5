"""The hard spending limit of a run. The most a call may cost is reserved before the call is sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel, ConfigDict, NonNegativeFloat, TypeAdapter, ValidationError

from atomthink_plugin.api import AtomThinkError, ServerError
from atomthink_plugin.json_rows import describe_error
from atomthink_plugin.servers.openai_client import Server, unsent
from atomthink_plugin.servers.replies import Counts, ServerReply, content_of
from atomthink_plugin.training.annotate.ledger import Cost, Ledger

_TURN_TOKENS: Final = 16  # tokens that a chat template adds to one message, at most
_IMAGE_TOKENS: Final = 4096  # tokens of one image, at most; raised when a server counts more


class LimitError(AtomThinkError):
    """The next call might cost more than is left of the budget."""

    exit_status = 3


class Price(BaseModel):
    """The price of a model, in USD per million tokens. Cached prompt tokens may have a price of their own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: NonNegativeFloat
    completion: NonNegativeFloat
    cached: NonNegativeFloat | None = None

    def usd(self, prompt: int, completion: int, cached: int = 0) -> float:
        """Returns the price of a call. The `cached` tokens are a part of the prompt's."""
        per_cached = self.prompt if self.cached is None else self.cached
        return ((prompt - cached) * self.prompt + cached * per_cached + completion * self.completion) / 1e6


@dataclass
class Call:
    """A call in flight, with its upper bound as its cost until the real one is known."""

    cost: Cost
    has_reply: bool = False


class SpendingBudget:
    """Counts the cost of calls and refuses a call that might exceed a limit.

    A call is one try of a request. A call that fits only if calls in flight turn out cheaper than their upper bounds
    waits for them. So the spending exceeds a limit only if a server counts more tokens than the upper bound of a call,
    or bills a call that it answered with an HTTP error.

    Args:
        price: Price of the model; None if no USD are counted.
        max_tokens: Limit on all tokens of this and all earlier runs; None for no limit.
        max_usd: Limit in USD, likewise.
        ledger: Has the spending of earlier runs, and records each call; None to record nothing.

    Raises:
        AtomThinkError: There is a limit in USD and no price.
    """

    def __init__(
        self,
        price: Price | None = None,
        max_tokens: int | None = None,
        max_usd: float | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        if max_usd is not None and price is None:
            raise AtomThinkError(f"`--max-usd {max_usd:g}` needs the price of the teacher: pass `--prices FILE`")
        self.spent = ledger.spent if ledger else Cost()
        self._price, self._max_tokens, self._max_usd, self.ledger = price, max_tokens, max_usd, ledger
        self._reserved = Cost()
        self._settled = asyncio.Event()
        self._exhausted = False

    def cost(self, prompt: int, completion: int, cached: int = 0) -> Cost:
        """Returns the cost of one call with so many tokens."""
        usd = self._price.usd(prompt, completion, cached) if self._price else 0.0
        return Cost(1, prompt, completion, cached, usd=usd)

    @asynccontextmanager
    async def call(self, bound: Cost) -> AsyncIterator[Call]:
        """Reserves the upper bound of a call while it is made, then books what the call cost.

        Raises:
            LimitError: The bound exceeds what is left, even without the calls in flight. All later calls fail as well.
        """
        await self._reserve(bound)
        call, number = Call(Cost()), 0
        try:
            if self.ledger:
                number = self.ledger.add_call(bound)
            call.cost = bound.unanswered()  # stays so if this run is interrupted here
            yield call
        finally:
            self._reserved -= bound
            self.spent += call.cost
            self._settled.set()
            self._settled = asyncio.Event()
            if self.ledger and number:
                self.ledger.add_cost(number, call.cost, hold=call.has_reply)

    async def _reserve(self, bound: Cost) -> None:
        while True:
            self._exhausted = self._exhausted or not self._fits(self.spent + bound)
            if self._exhausted:
                limits = [f"`--max-tokens-total {self._max_tokens}`"] if self._max_tokens is not None else []
                limits += [f"`--max-usd {self._max_usd:g}`"] if self._max_usd is not None else []
                spent = f"{self.spent.tokens} tokens" + (f", {self.spent.usd:.4f} USD" if self._price else "")
                raise LimitError(f"{' or '.join(limits)} is reached: {spent} are spent")
            if self._fits(self.spent + self._reserved + bound):
                break
            await self._settled.wait()
        self._reserved += bound

    def _fits(self, cost: Cost) -> bool:
        fits_usd = self._max_usd is None or cost.usd <= self._max_usd * (1 + 1e-12)
        return fits_usd and (self._max_tokens is None or cost.tokens <= self._max_tokens)


class PaidServer(Server):
    """A server whose calls are paid from a budget.

    Each try of a request is a call: a server works on every request that it gets, and bills it, even if the client no
    longer waits. A call costs nothing if no connection was made or an HTTP error came back. It costs its upper bound
    if the real cost is unknown: no reply in time, a dropped connection, or a reply without token counts.
    """

    def __init__(
        self, url: str, key: str, budget: SpendingBudget, *, timeout: float, max_retries: int, connections: int
    ) -> None:
        super().__init__(url, key, timeout=timeout, max_retries=max_retries, connections=connections)
        self._budget = budget
        self._image_tokens = _IMAGE_TOKENS

    async def _send(self, path: str, body: Mapping[str, Any]) -> str:
        import openai

        size, images = content_of(body)
        schema = len(json.dumps(body.get("response_format", "")))
        # A token is at least one byte.
        prompt = size + schema + _TURN_TOKENS * (len(body["messages"]) + 1) + self._image_tokens * images
        bound = self._budget.cost(prompt, body.get("max_tokens") or body["max_completion_tokens"])
        async with self._budget.call(bound) as call:
            try:
                reply = await super()._send(path, body)
            except openai.APIStatusError:
                call.cost = Cost(calls=1)
                raise
            except openai.APIConnectionError as error:
                call.cost = Cost() if unsent(error) else call.cost
                raise
            counts = self._counts(reply, body)
            if counts.prompt and counts.completion is not None:
                call.cost = self._budget.cost(counts.prompt, counts.completion, counts.cached)
                if images and counts.prompt > bound.prompt:
                    self._image_tokens = max(self._image_tokens, -(-counts.prompt // images))
            call.has_reply = True
        return reply

    def _fault(self, error: Exception, path: str) -> ServerError:
        fault = super()._fault(error, path)
        # Only an UnreachableError makes the caller wait for the server and ask again, which would be paid each time.
        return fault if unsent(error) else ServerError(str(fault))

    def _counts(self, reply: str, body: Mapping[str, Any]) -> Counts:
        try:
            return self.checks.counts(ServerReply.model_validate_json(reply), body, [len(reply)])
        except ValidationError:
            return Counts()


def read_price(file: Path, model: str) -> Price:
    """Returns the price of a model from a YAML file with lines like `NAME: {prompt: 2.5, completion: 10}`.

    Raises:
        AtomThinkError: The file cannot be read or has no price for the model.
    """
    try:
        content: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
        prices = TypeAdapter(dict[str, Price]).validate_python(content)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise AtomThinkError(f"`--prices {file}` cannot be read: {error}") from None
    except ValidationError as error:
        raise AtomThinkError(
            f"`--prices {file}`: {describe_error(error)}. Write lines like `NAME: {{prompt: 2.5, completion: 10, "
            "cached: 1.25}`, in USD per million tokens"
        ) from None
    if model not in prices:
        raise AtomThinkError(f"`--prices {file}` has no price for {model!r}, only for {', '.join(prices)}")
    return prices[model]
