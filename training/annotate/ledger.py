"""The ledger of a run: an append-only file of calls and their costs, replies, and finished questions.

A killed run continues from it: finished questions are read back, and the others reuse the replies they already had.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from atomthink_plugin.append_log import AppendLog

log = logging.getLogger(__name__)

NAME: Final = "journal.jsonl"


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of calls.

    Attributes:
        calls: Requests that reached a server. Each retry is a call.
        prompt: Prompt tokens, including cached ones.
        completion: Tokens of the replies.
        cached: Prompt tokens that the server took from its cache.
        unknown: Upper bound on the tokens of calls without a reply, or without counts in it.
        usd: Total price in USD, 0 without a price list.
    """

    calls: int = 0
    prompt: int = 0
    completion: int = 0
    cached: int = 0
    unknown: int = 0
    usd: float = 0.0

    @property
    def tokens(self) -> int:
        """All tokens that count towards a limit."""
        return self.prompt + self.completion + self.unknown

    def unanswered(self) -> Cost:
        """Returns the cost of a call with this upper bound whose real cost is unknown."""
        return Cost(calls=self.calls, unknown=self.tokens, usd=self.usd)

    def __add__(self, other: Cost) -> Cost:
        return Cost(**{name: value + getattr(other, name) for name, value in asdict(self).items()})

    def __sub__(self, other: Cost) -> Cost:
        return Cost(**{name: value - getattr(other, name) for name, value in asdict(self).items()})


class Ledger:
    """The ledger in the output folder of a run.

    Attributes:
        finished: Results of finished questions, by key.
        spent: Cost of all earlier runs. A call that was in flight when a run was killed counts with its upper bound.

    Raises:
        AtomThinkError: The file cannot be written, or another run is writing it.
    """

    def __init__(self, folder: Path) -> None:
        self.finished: dict[str, Mapping[str, Any]] = {}
        self.spent = Cost()
        self._replies: dict[str, dict[str, str]] = {}
        self._calls = 0
        self._held: dict[str, Any] = {}
        self._log = AppendLog(folder / NAME, f"`--out {folder}`")
        in_flight: dict[Any, Cost] = {}
        for entry in self._log.entries():
            try:
                self._take(entry.record, in_flight)
            except (KeyError, TypeError, ValueError) as error:
                log.warning("%s is not an entry of a ledger (%s). It is ignored", entry.place, error)
        for call, bound in in_flight.items():
            self.spent += bound.unanswered()
            self.add_cost(call, bound.unanswered())

    def reply(self, question: str, request: str) -> str | None:
        """Returns the stored reply to a request of an unfinished question, None if there is none."""
        return self._replies.get(question, {}).get(request)

    def add_call(self, bound: Cost) -> int:
        """Records a call and its upper bound before it is sent, and returns its number."""
        self._calls += 1
        self._append({"asked": self._calls, "worst": asdict(bound)})
        return self._calls

    def add_cost(self, call: int, cost: Cost, *, hold: bool = False) -> None:
        """Records what a call cost.

        With `hold`, the cost is written in one line with the next record, which is the reply. If the run is killed
        between the two, the call counts as unanswered. So the reply is never lost while its cost is kept.
        """
        if self._held:
            self._append({})
        self._held = {"answered": call, "cost": asdict(cost)}
        if not hold:
            self._append({})

    def add_reply(self, question: str, request: str, text: str) -> None:
        """Records the reply to a request, which may have taken several calls."""
        self._append({"replied": request, "question": question, "text": text})
        self._replies.setdefault(question, {})[request] = text

    def finish(self, question: str, result: Mapping[str, Any]) -> None:
        """Records the result of a question and waits until it is on disk."""
        self._append({"finished": question, "result": result}, sync=True)
        self.finished[question] = result
        self._replies.pop(question, None)

    def close(self) -> None:
        """Closes the file, so that another run can write it."""
        try:
            if self._held:
                self._append({})
        finally:
            self._log.close()

    def _append(self, record: Mapping[str, Any], *, sync: bool = False) -> None:
        self._log.append({**self._held, **record}, sync=sync)
        self._held = {}

    def _take(self, record: Mapping[str, Any], in_flight: dict[Any, Cost]) -> None:
        """Takes one line: a call, a reply or a result, and the cost of an earlier call that may be in the same line."""
        if "answered" in record:
            self.spent += Cost(**record["cost"])
            in_flight.pop(record["answered"], None)
        if "asked" in record:
            in_flight[record["asked"]] = Cost(**record["worst"])
            self._calls += 1
        elif "replied" in record:
            self._replies.setdefault(record["question"], {})[record["replied"]] = record["text"]
        elif "finished" in record:
            self.finished[record["finished"]] = dict(record["result"])
            self._replies.pop(record["finished"], None)
