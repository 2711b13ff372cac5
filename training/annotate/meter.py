"""What a teacher costs, and a limit that is kept by setting aside what a call may cost before it is made."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, NonNegativeFloat, TypeAdapter, ValidationError

from atomthink_plugin.api import AtomThinkError


class LimitError(AtomThinkError):
    """The next call might cost more than is left to spend."""


class Price(BaseModel):
    """What a model costs, in USD per million tokens.

    Attributes:
        prompt: Tokens of the prompt.
        completion: Tokens of the reply.
        cached: Tokens of the prompt that the server had read before; None where they cost as much as others.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: NonNegativeFloat
    completion: NonNegativeFloat
    cached: NonNegativeFloat | None = None

    def usd(self, prompt: int, completion: int, cached: int = 0) -> float:
        """Returns what a call costs; `cached` tokens are some of the prompt's."""
        read = self.prompt if self.cached is None else self.cached
        return ((prompt - cached) * self.prompt + cached * read + completion * self.completion) / 1e6


@dataclass(frozen=True, slots=True)
class Cost:
    """What calls cost. Additive.

    Attributes:
        calls: Requests that a server got, each try by itself.
        prompt: Tokens of the prompts, cached ones included.
        completion: Tokens of the replies.
        cached: Prompt tokens that the server had read before.
        unknown: The most that calls without a reply may have cost: nobody says what they did.
        usd: All of it in USD, 0 without a price.
    """

    calls: int = 0
    prompt: int = 0
    completion: int = 0
    cached: int = 0
    unknown: int = 0
    usd: float = 0.0

    @property
    def tokens(self) -> int:
        """All tokens that count toward a limit."""
        return self.prompt + self.completion + self.unknown

    def unanswered(self) -> Cost:
        """Returns what a call that may cost this counts as where no reply came."""
        return Cost(calls=self.calls, unknown=self.tokens, usd=self.usd)

    def __add__(self, other: Cost) -> Cost:
        return Cost(**{name: value + getattr(other, name) for name, value in asdict(self).items()})


class Meter:
    """Counts what calls cost, and refuses those that might cost more than is left.

    A call is one try of a request. One that fits only if those in flight turn out cheaper than they may be waits for
    them. So what is spent exceeds a limit only where a server counts more tokens than a call's bound, or bills what
    it replied to with an HTTP error.

    Args:
        price: The model's; None where nobody asks for USD.
        max_tokens: The most tokens that may be spent, None for no limit.
        max_usd: Likewise in USD.
        spent: By earlier runs.

    Raises:
        AtomThinkError: There is a limit in USD and no price.
    """

    def __init__(
        self,
        price: Price | None = None,
        max_tokens: int | None = None,
        max_usd: float | None = None,
        spent: Cost | None = None,
    ) -> None:
        if max_usd is not None and price is None:
            raise AtomThinkError(
                f"`--max-usd {max_usd:g}` needs the teacher's price: name it in a file, `--prices FILE`"
            )
        self.spent = spent or Cost()
        self._price, self._max_tokens, self._max_usd = price, max_tokens, max_usd
        self._reserved = Cost()
        self._settled = asyncio.Event()
        self._closed = False

    def cost(self, prompt: int, completion: int, cached: int = 0) -> Cost:
        """Returns what one call of so many tokens costs."""
        usd = self._price.usd(prompt, completion, cached) if self._price else 0.0
        return Cost(1, prompt, completion, cached, usd=usd)

    async def reserve(self, worst: Cost) -> None:
        """Sets aside what a call may cost at most, once that fits beside those in flight.

        Raises:
            LimitError: It does not fit even without them; nor does any call from then on.
        """
        while True:
            self._closed = self._closed or not self._fits(self.spent + worst)
            if self._closed:
                raise LimitError(f"{self._limits()} is reached: {self._told()} are spent")
            if self._fits(self.spent + self._reserved + worst):
                break
            await self._settled.wait()
        self._reserved += worst

    def settle(self, worst: Cost, cost: Cost) -> None:
        """Replaces what was set aside for a call by what it cost."""
        self._reserved += Cost(*(-value for value in asdict(worst).values()))
        self.spent += cost
        self._settled.set()
        self._settled = asyncio.Event()

    def _fits(self, cost: Cost) -> bool:
        within = self._max_usd is None or cost.usd <= self._max_usd * (1 + 1e-12)
        return within and (self._max_tokens is None or cost.tokens <= self._max_tokens)

    def _limits(self) -> str:
        tokens = [] if self._max_tokens is None else [f"`--max-tokens-total {self._max_tokens}`"]
        return " or ".join([*tokens, *([] if self._max_usd is None else [f"`--max-usd {self._max_usd:g}`"])])

    def _told(self) -> str:
        return f"{self.spent.tokens} tokens" + (f", {self.spent.usd:.4f} USD" if self._price else "")


def read_price(file: Path, model: str) -> Price:
    """Returns a model's price from a YAML file: names of models to USD per million tokens.

    Raises:
        AtomThinkError: The file cannot be read or has no price for the model.
    """
    try:
        content: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
        prices = TypeAdapter(dict[str, Price]).validate_python(content)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise AtomThinkError(f"`--prices {file}` cannot be read: {error}") from None
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"])) or "file"
        raise AtomThinkError(
            f"`--prices {file}`: {where}: {fault['msg']}; it holds lines like `NAME: {{prompt: 2.5, completion: 10, "
            "cached: 1.25}`, in USD per million tokens"
        ) from None
    if model not in prices:
        raise AtomThinkError(f"`--prices {file}` has no price for {model!r}, only for {', '.join(prices)}")
    return prices[model]
