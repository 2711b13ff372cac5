"""A server that is paid for what it is asked: nothing is sent that the limits do not allow, and all of it is booked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from atomthink_plugin.api import ServerError
from atomthink_plugin.servers.openai_client import Server, unsent
from atomthink_plugin.servers.replies import Counts, ServerReply, content_of
from atomthink_plugin.training.annotate.ledger import Ledger
from atomthink_plugin.training.annotate.meter import Cost, Meter

_TURN: Final = 16  # tokens of a chat template around one message, at most
_IMAGE: Final = 4096  # tokens of one image, at most; what a server counts beyond that raises it


class PaidServer(Server):
    """Asks one server for chat completions within the meter's limits.

    Every try of a request is a call of its own: a server works on what it was sent, and bills it, whether or not
    somebody still waits. A call costs nothing where no connection was made or an HTTP error came back, and the most
    it may where nobody says what it cost: no reply in time, a dropped connection, a reply without counts.

    Args:
        url: As `Server`, and so are the other arguments that are not named here.
        key: Likewise.
        meter: Counts and limits what is spent.
        ledger: Where calls are noted; None to keep nothing.
        timeout: Likewise.
        max_retries: Further tries after a rate limit, a server error, a timeout or a lost connection.
        connections: Likewise.
    """

    def __init__(
        self,
        url: str,
        key: str,
        meter: Meter,
        ledger: Ledger | None,
        *,
        timeout: float,
        max_retries: int,
        connections: int,
    ) -> None:
        super().__init__(url, key, timeout=timeout, max_retries=max_retries, connections=connections)
        self._meter = meter
        self._ledger = ledger
        self._image = _IMAGE

    async def _send(self, path: str, body: Mapping[str, Any]) -> str:
        import openai

        images, worst = self._most(body)
        await self._meter.reserve(worst)
        cost = worst.unanswered()  # also when this run is interrupted here
        call = self._ledger.asked(worst) if self._ledger else 0
        try:
            reply = await super()._send(path, body)
            cost = self._cost(self._counts(reply, body), images, worst)
        except openai.APIStatusError:
            cost = Cost(calls=1)
            raise
        except openai.APIConnectionError as error:
            cost = Cost() if unsent(error) else cost
            raise
        finally:
            self._meter.settle(worst, cost)
            if self._ledger:
                self._ledger.answered(call, cost)
        return reply

    def _fault(self, error: Exception, path: str) -> ServerError:
        fault = super()._fault(error, path)
        return fault if unsent(error) else ServerError(str(fault))  # waiting would cost something with every try

    def _most(self, body: Mapping[str, Any]) -> tuple[int, Cost]:
        """Returns a request's images, and the most it may cost: a token is at least one byte."""
        size, images = content_of(body)
        schema = len(json.dumps(body.get("response_format", "")))
        prompt = size + schema + _TURN * (len(body["messages"]) + 1) + self._image * images
        return images, self._meter.cost(prompt, body.get("max_tokens") or body["max_completion_tokens"])

    def _counts(self, reply: str, body: Mapping[str, Any]) -> Counts:
        try:
            return self.checks.counts(ServerReply.model_validate_json(reply), body, [len(reply)])
        except ValidationError:
            return Counts()

    def _cost(self, counts: Counts, images: int, worst: Cost) -> Cost:
        if not counts.prompt or counts.completion is None:
            return worst.unanswered()
        if images and counts.prompt > worst.prompt:
            self._image = max(self._image, -(-counts.prompt // images))
        return self._meter.cost(counts.prompt, counts.completion, counts.cached)
