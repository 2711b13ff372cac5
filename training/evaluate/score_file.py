"""Scores that were given, one JSON line per chain, so that a killed run goes on where it stopped."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.training.evaluate.labelled import Labelled

log = logging.getLogger(__name__)


class ScoreFile:
    """An append-only file: a line that says whose scores these are, then each chain's when all its steps have one.

    Chains are told by what the PRM sees of them, so that scores are found again whatever a chain is called. Failures
    are written too, and tried again by the next run.

    Args:
        file: Where they are kept.
        prm: Everything that changes scores.

    Raises:
        AtomThinkError: The file has scores of another PRM, or cannot be used.
    """

    def __init__(self, file: Path, prm: Mapping[str, Any]) -> None:
        self._head = json.loads(json.dumps({"prm": prm}, default=str))
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._known = self._read(file)
            self._out = file.open("a+b")
        except (OSError, UnicodeDecodeError) as error:
            raise AtomThinkError(f"`--scores {file}` cannot be used: {error}") from None
        if self._out.tell() == 0:
            self._append(self._head)
        else:
            self._end_torn_line()

    def get(self, item: Labelled, key: str) -> tuple[float, ...] | None:
        """Returns a chain's scores if it has some."""
        scores = self._known.get(key)
        return scores if scores is not None and len(scores) == len(item.chain.steps) else None

    def put(self, item: Labelled, key: str, scores: Sequence[float] | str) -> None:
        """Appends a chain's scores, or why it has none, and waits until that is on disk."""
        said = {"failure": scores} if isinstance(scores, str) else {"scores": list(scores)}
        self._append({"key": key, "id": item.chain.id, **said})

    def close(self) -> None:
        """Closes the file."""
        self._out.close()

    def _read(self, file: Path) -> dict[str, tuple[float, ...]]:
        lines = file.read_bytes().splitlines() if file.exists() else []
        if lines and _object(lines[0]) != self._head:
            raise AtomThinkError(
                f"`--scores {file}` is no file of this PRM's scores (it begins with {lines[0][:200]!r}): name another"
            )
        records = [_object(line) for line in lines[1:]]
        torn = sum(record is None for record in records)
        if torn:
            log.warning("%s: %d lines are torn: those chains are scored again", file, torn)
        return {record["key"]: tuple(record["scores"]) for record in records if record and "scores" in record}

    def _append(self, record: Mapping[str, Any]) -> None:
        self._out.write(json.dumps(record, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
        self._out.flush()
        os.fsync(self._out.fileno())

    def _end_torn_line(self) -> None:
        """Puts a killed run's half-written last line on a line of its own."""
        self._out.seek(-1, os.SEEK_END)
        if self._out.read(1) != b"\n":
            self._out.write(b"\n")


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
