"""Requests for the log-probabilities of given tokens or the outputs of a classifier, and vLLM's replies to them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel

from atomthink_plugin.api import QuestionError
from atomthink_plugin.servers.replies import ServerReply

_ID: Final = "token_id:"
"""Beginning of a token that is written as its id."""

IDS: Final = {"return_tokens_as_token_ids": True}
"""Asks the routes of OpenAI's protocol to write tokens as their ids."""

_MOST_NATS: Final = 700.0
"""Difference of log-probabilities beyond which its exponential is no float."""


def one_token(ids: Sequence[int]) -> dict[str, Any]:
    """Returns what asks for one generated token with the log-probabilities of `ids`."""
    return {"max_tokens": 1, "temperature": 0, "logprob_token_ids": list(ids)}


def logprobs_of(given: Mapping[int, float], ids: Sequence[int]) -> list[float]:
    """Returns the log-probabilities of `ids`.

    Raises:
        QuestionError: One is missing.
    """
    missing = [token for token in ids if token not in given]
    if missing:
        raise QuestionError(
            f"the served PRM gave no log-probability of the tokens {missing}: serve it with a vLLM that knows "
            "`logprob_token_ids` (0.32 does)"
        )
    return [given[token] for token in ids]


def share_of_good(good: float, bad: float) -> float:
    """Returns the softmax over two log-probabilities, of the first."""
    return 1 / (1 + math.exp(min(bad - good, _MOST_NATS)))


def by_id(named: Mapping[str, float]) -> dict[int, float]:
    """Returns log-probabilities by token id, from those of tokens that are written as their ids."""
    return {int(name.removeprefix(_ID)): value for name, value in named.items() if name.startswith(_ID)}


class _TopLogprobs(BaseModel):
    top_logprobs: list[dict[str, float]]


class _Continuation(BaseModel):
    logprobs: _TopLogprobs


class Continuations(ServerReply):
    """A reply of `/v1/completions` with tokens written as ids."""

    choices: list[_Continuation]

    def logprobs(self) -> dict[int, float]:
        """Returns the log-probabilities of the generated token and of the requested ones."""
        return by_id(self.choices[0].logprobs.top_logprobs[0])


class _Named(BaseModel):
    token: str
    logprob: float


class _NamedPosition(BaseModel):
    top_logprobs: list[_Named]


class _NamedPositions(BaseModel):
    content: list[_NamedPosition]


class _Turn(BaseModel):
    logprobs: _NamedPositions


class ContinuedTurns(ServerReply):
    """A reply of `/v1/chat/completions` with tokens written as ids."""

    choices: list[_Turn]

    def logprobs(self) -> dict[int, float]:
        """Returns the log-probabilities of the generated token and of the requested ones."""
        return by_id({one.token: one.logprob for one in self.choices[0].logprobs.content[0].top_logprobs})


class _Numbered(BaseModel):
    token_id: int
    logprob: float


class _NumberedPosition(BaseModel):
    top_logprobs: list[_Numbered]


class _NumberedPositions(BaseModel):
    content: list[_NumberedPosition]


class _Generation(BaseModel):
    logprobs: _NumberedPositions


class Generations(ServerReply):
    """A reply of `/inference/v1/generate`.

    Attributes:
        choices: The generated texts.
        prompt_token_ids: The prompt as the model read it, the tokens of images included.
    """

    choices: list[_Generation]
    prompt_token_ids: list[int]

    def logprobs(self) -> dict[int, float]:
        """Returns the log-probabilities of the generated token and of the requested ones."""
        return {one.token_id: one.logprob for one in self.choices[0].logprobs.content[0].top_logprobs}


class _Class(BaseModel):
    probs: list[float]


class Classes(ServerReply):
    """A reply of `/classify`."""

    data: list[_Class]

    def outputs(self) -> list[float]:
        """Returns the outputs of the classifier at the last token."""
        return self.data[0].probs
