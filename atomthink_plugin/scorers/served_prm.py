"""Process reward models on a server, asked so that its prefix cache serves every step but the last.

vLLM does not read its prefix cache for `prompt_logprobs`, nor for pooling over all tokens (`POST /pooling`): each score
would cost the whole history, image included. Two routes do read it, and each gives the last step's score alone, which
is all that is wanted: one generated token for a language model that is read at a tag, and the class of the whole
sequence for a classifier. `benchmarks/prm_routes.py` measures all four.
"""

from __future__ import annotations

import asyncio
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from atomthink_plugin.api import AtomThinkError, Message, Path, Question, QuestionError, Score, Step, Usage
from atomthink_plugin.inference.phases import PhaseClock
from atomthink_plugin.runtime.event_loop import run
from atomthink_plugin.servers.openai_client import Server, addresses, key
from atomthink_plugin.servers.origin import origin
from atomthink_plugin.servers.pool import Servers
from atomthink_plugin.servers.replies import Counts, ServerReply

_READINGS: Final = 3
"""How often a score is requested before a reply that cannot be read fails the path."""

_TRIED: Final = Path(Question("check", (Message("user", ("What is 1 + 1?",)),))).extend(Step("Step 1: 1 + 1 = 2."))


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """A request about the last step of a path.

    Attributes:
        body: What is asked, without the model's name.
        read: Returns a reply's score, and the reply. It raises a `ValidationError` or an `IndexError` for a text that
            is not a reply to this kind of request, and a `QuestionError` for a reply without the requested scores.
    """

    body: Mapping[str, Any]
    read: Callable[[str], tuple[float, ServerReply]]


class ServedPrm(ABC):
    """A PRM on one or several servers; a question stays with one, whose prefix cache then serves its later steps.

    Args:
        identity: Distinguishes its scores from those of other PRMs.
        model: What the servers call it.
        servers: The servers.
        wait: Seconds to wait for one of them to come back when none is left.
    """

    start: str
    """The command that serves such a PRM with vLLM, for messages."""

    def __init__(self, identity: str, model: str, servers: Sequence[Server], wait: float) -> None:
        self.identity = identity
        self._model = model
        self._servers = servers
        self.clock = PhaseClock()
        for server in servers:
            server.clock = self.clock
        self._pool = Servers(servers, wait, "prm_")

    @abstractmethod
    def route(self, server: Server) -> str:
        """Returns where a server is asked."""

    @abstractmethod
    def request(self, path: Path) -> ScoreRequest:
        """Returns the request about the last step of `path`.

        Raises:
            QuestionError: The PRM cannot be asked about it.
        """

    def tried(self) -> Path:
        """Returns a path that every server scores before the first question."""
        return _TRIED

    async def score(self, path: Path) -> Score:
        """Scores the last step of `path`.

        Raises:
            QuestionError: The server refuses the path, or fails.
        """
        request = self.request(path)
        value, counts = await self._pool.ask(path.question.id, lambda server: self._ask(server, request))
        usage = Usage(score_calls=1, prefilled=counts.prompt - counts.cached, cached=counts.cached)
        return Score(value, usage)

    async def _ask(self, server: Server, request: ScoreRequest) -> tuple[float, Counts]:
        import openai

        body = {"model": self._model, **request.body}
        for _ in range(_READINGS):
            try:
                text = await server.post(self.route(server), body)
                value, reply = request.read(text)
            except (openai.BadRequestError, openai.UnprocessableEntityError, openai.NotFoundError) as error:
                raise QuestionError(
                    f"{server.name} refuses to score a step (HTTP {error.status_code}: {server.message(error)})"
                ) from None
            except (ValidationError, IndexError):  # no JSON of the protocol, or lists of nothing
                continue
            if not math.isfinite(value):
                raise QuestionError(f"{server.name} gave {value} as a score: serve the PRM in another precision")
            server.checks.model(self._model, reply)
            return value, server.checks.counts(reply, body, [0])
        raise QuestionError(
            f"{server.name} gave a reply that is no score ({server.quote(text)}), {_READINGS} times in a row: look at "
            "the server's log"
        )

    async def check(self) -> None:
        """Has every server score a step, and completes the identity.

        Raises:
            AtomThinkError: One of them cannot; names the command that serves such a PRM with vLLM.
        """
        try:
            request = self.request(self.tried())
            await asyncio.gather(*(self._ask(server, request) for server in self._servers))
        except QuestionError as error:
            raise AtomThinkError(f"{error}; vLLM serves this kind of PRM with `{self.start}`") from None
        self.identity += f" from {await origin(self._servers, self._model)}"


def prm_servers(base_url: str, connections: int, timeout: float, max_retries: int) -> list[Server]:
    """Returns the servers that `prm_base_url=` names; see `Server` for the other arguments.

    Raises:
        AtomThinkError: One of them is no address.
    """
    secret = key()
    return [
        Server(url, secret, timeout=timeout, max_retries=max_retries, connections=connections, prefix="prm_")
        for url in addresses(base_url, "prm_")
    ]


def served_name(prm: str, servers: Sequence[Server]) -> str:
    """Returns the PRM's name on the servers: that of their only model, else the name that the user gave."""
    served = run(servers[0].models())
    return served[0] if len(served) == 1 else prm
