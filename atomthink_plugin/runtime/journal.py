"""One JSON line per finished question, so that a killed run goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path as FilePath
from typing import Any

from atomthink_plugin.api import Node, Outcome, Question, Result, Rollout, Usage
from atomthink_plugin.runtime.files import write_atomically
from atomthink_plugin.runtime.thumbnails import Thumbnails

log = logging.getLogger(__name__)


class Journal:
    """Finished questions of one run configuration, in one folder, one file per process.

    The folder's name carries the digest of everything that changes results, and each record the digest
    of its question, so that a record is only ever read back for the same question thought about in the
    same way. Failures are written too, and asked again by the next run.

    Args:
        folder: Where journals live.
        name: Readable beginning of this configuration's folder name.
        settings: Everything that changes results: model, scorer, search, format, seed, limits.
        rank: Index of this process.
    """

    def __init__(self, folder: FilePath, name: str, settings: Mapping[str, Any], rank: int = 0) -> None:
        digest = hashlib.blake2b(_dump(settings).encode(), digest_size=6).hexdigest()
        self.folder = folder / f"{name}-{digest}"
        self.folder.mkdir(parents=True, exist_ok=True)
        written = json.dumps(settings, indent=1, sort_keys=True, default=str)
        write_atomically(self.folder / "settings.json", written.encode())
        self.thumbnails = Thumbnails(self.folder / "images")
        self._places = self._read()
        self._own = self.folder / f"rank{rank}.jsonl"
        self._file = self._own.open("a+b")
        self._end_torn_line()

    def __len__(self) -> int:
        """Returns how many questions are finished."""
        return len(self._places)

    def get(self, question: Question) -> Outcome | None:
        """Returns the outcome of a question that was finished before."""
        place = self._places.get(question_key(question))
        if place is None:
            return None
        path, start = place
        with path.open("rb") as file:
            file.seek(start)
            return outcome_of(json.loads(file.readline())["outcome"])

    def put(self, question: Question, result: Result) -> None:
        """Appends one record and waits until it is on disk."""
        key = question_key(question)
        record: dict[str, Any] = {"key": key, "question": question.id, "text": question.text}
        record["images"] = self.thumbnails.keep(question.images)
        done = isinstance(result, Outcome)
        record |= {"status": "done", "outcome": result} if done else {"status": "failed", "failure": result}
        line = _dump(record).encode("utf-8", "replace") + b"\n"
        self._file.write(line)
        self._file.flush()
        os.fsync(self._file.fileno())
        if done:
            self._places[key] = self._own, self._file.tell() - len(line)

    def close(self) -> None:
        """Closes this process's file."""
        self._file.close()

    def _read(self) -> dict[str, tuple[FilePath, int]]:
        """Returns where each outcome is: all their trees may not fit in memory."""
        places = {}
        for path in sorted(self.folder.glob("rank*.jsonl")):
            start = 0
            with path.open("rb") as file:
                for number, line in enumerate(file, 1):
                    try:
                        record = json.loads(line)
                        if record["status"] == "done":
                            outcome_of(record["outcome"])
                            places[record["key"]] = path, start
                    except (ValueError, KeyError, TypeError):
                        log.warning("%s line %d is torn or foreign: that question is asked again", path, number)
                    start += len(line)
        return places

    def _end_torn_line(self) -> None:
        """Puts a killed run's half-written last line on a line of its own."""
        size = self._file.seek(0, os.SEEK_END)
        if size:
            self._file.seek(size - 1)
            if self._file.read(1) != b"\n":
                self._file.write(b"\n")
                self._file.flush()


def question_key(question: Question) -> str:
    """Returns the id with a digest of all that is asked: turns, image pixels, choices, limits."""
    digest = hashlib.blake2b(digest_size=8)
    for turn in question.messages:
        digest.update(turn.role.encode())
        for part in turn.parts:
            if isinstance(part, str):
                digest.update(b"\0text" + part.encode("utf-8", "surrogatepass"))
            elif part is not None:
                digest.update(f"\0image{part.mode}{part.size}".encode() + part.tobytes())
    digest.update(repr((question.choices, question.limits)).encode())
    for step in question.history:
        digest.update(b"\0step" + step.encode("utf-8", "surrogatepass"))
    if question.direct:
        digest.update(b"\0direct")
    return f"{question.id}#{digest.hexdigest()}"


def outcome_of(record: dict[str, Any]) -> Outcome:
    """Returns an outcome as it was before it was written.

    Raises:
        KeyError: Or TypeError: it is none.
    """
    values = {item.name: record[item.name] for item in fields(Outcome) if item.name != "rollouts"}
    values["usage"] = Usage(**record["usage"])
    values["nodes"] = tuple(Node(**node) for node in record["nodes"])
    # Journals that were begun before rollouts were kept have none; what they hold stays good.
    values["rollouts"] = tuple(Rollout(**rollout) for rollout in record.get("rollouts", ()))
    values["steps"], values["scores"] = tuple(record["steps"]), tuple(record["scores"])
    return Outcome(**values)


def _dump(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=_plain)


def _plain(value: Any) -> Any:
    """What JSON has no word for: our nouns by their fields, anything else as text."""
    if is_dataclass(value):
        return {item.name: getattr(value, item.name) for item in fields(value)}
    return str(value)
