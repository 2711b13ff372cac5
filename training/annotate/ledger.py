"""One file that is only appended to: each call with its cost, the replies, and which questions are finished.

A killed run goes on from it without asking anything twice: finished questions are read back, and the others replay
the replies they had.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.training.annotate.meter import Cost

log = logging.getLogger(__name__)

NAME: Final = "journal.jsonl"


@dataclass
class Ledger:
    """What a folder's earlier runs did, and where this one writes what it does.

    Attributes:
        finished: What questions came to, by key.
        spent: By all runs so far; calls that were in flight when a run was killed count as the most they may cost.
    """

    folder: Path
    finished: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    spent: Cost = field(default_factory=Cost)

    def __post_init__(self) -> None:
        """Opens the file and reads it.

        Raises:
            AtomThinkError: It cannot be written, or another run is writing it.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._file = (self.folder / NAME).open("a+b")
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AtomThinkError(f"`--out {self.folder}`: another run is writing there; wait for its end") from None
        except OSError as error:
            raise self._unwritable(error) from None
        self._replies: dict[str, dict[str, str]] = {}
        self._calls = 0
        self._read()

    def reply(self, question: str, request: str) -> str | None:
        """Returns what a request of a question that is not finished was answered with, None if it was not."""
        return self._replies.get(question, {}).get(request)

    def asked(self, worst: Cost) -> int:
        """Notes a call before it is made, with the most it may cost, and returns its number."""
        self._calls += 1
        self._append({"asked": self._calls, "worst": asdict(worst)})
        return self._calls

    def answered(self, call: int, cost: Cost) -> None:
        """Notes what a call cost, whatever came of it."""
        self._append({"answered": call, "cost": asdict(cost)})
        self.spent += cost

    def replied(self, question: str, request: str, text: str) -> None:
        """Notes the reply to a request, which may have taken several calls."""
        self._append({"replied": request, "question": question, "text": text})
        self._replies.setdefault(question, {})[request] = text

    def finish(self, question: str, result: Mapping[str, Any]) -> None:
        """Notes what a question came to and waits until it is on disk."""
        self._append({"finished": question, "result": result})
        os.fsync(self._file.fileno())
        self.finished[question] = result
        self._replies.pop(question, None)

    def close(self) -> None:
        """Closes the file; another run may write it then."""
        try:
            self._file.close()
        except OSError as error:  # writes again what could not be written before
            raise self._unwritable(error) from None

    def _append(self, record: Mapping[str, Any]) -> None:
        try:
            self._file.write(json.dumps(record, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
            self._file.flush()
        except OSError as error:
            raise self._unwritable(error) from None

    def _unwritable(self, error: OSError) -> AtomThinkError:
        return AtomThinkError(f"`--out {self.folder}` cannot be written: {error.strerror}")

    def _read(self) -> None:
        in_flight: dict[Any, Cost] = {}
        for record in self._records():
            match record:
                case {"asked": call, "worst": dict(worst)}:
                    in_flight[call] = Cost(**worst)
                    self._calls += 1
                case {"answered": call, "cost": dict(cost)}:
                    in_flight.pop(call, None)
                    self.spent += Cost(**cost)
                case {"replied": str(request), "question": str(question), "text": str(text)}:
                    self._replies.setdefault(question, {})[request] = text
                case {"finished": str(question), "result": dict(result)}:
                    self.finished[question] = result
                    self._replies.pop(question, None)
        for call, most in in_flight.items():
            self.answered(call, most.unanswered())

    def _records(self) -> Iterator[Any]:
        """Yields the records, without those a kill tore, and ends a torn last line."""
        self._file.seek(0)
        line = b"\n"
        for number, line in enumerate(self._file, start=1):
            try:
                yield json.loads(line)
            except ValueError:
                log.warning("%s line %d is torn: what it told is asked again", self._file.name, number)
        if not line.endswith(b"\n"):
            self._file.write(b"\n")
            self._file.flush()
