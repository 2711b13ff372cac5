"""Reads the journals of runs, for resuming, reports and preference pairs."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path as FilePath
from typing import Any, NamedTuple

from atomthink_plugin.api import Failure, Node, Outcome, Result, Rollout, Usage
from atomthink_plugin.append_log import DamagedLine, LogEntry, read_log
from atomthink_plugin.runtime.records import decode

log = logging.getLogger(__name__)


class JournalEntry(NamedTuple):
    """One finished or failed question of a journal.

    Attributes:
        file: The file.
        number: The number of its line, from 1.
        start: The byte its line starts at; `load_outcome` reads it again.
        key: Digest of the question.
        question: The question's id.
        text: The question's text.
        choices: Its options, empty for free-form questions and in journals that do not record them.
        images: File names of its thumbnails, None in journals that do not record them.
        result: The outcome with its tree, or the failure.
    """

    file: FilePath
    number: int
    start: int
    key: str
    question: str
    text: str
    choices: tuple[str, ...]
    images: tuple[str, ...] | None
    result: Result

    @property
    def place(self) -> str:
        """The name of the file and the number of the line, as `rank0.jsonl:7`."""
        return f"{self.file.name}:{self.number}"


def rank_files(folder: FilePath) -> list[FilePath]:
    """Returns the files of a journal, one per process. Folders and broken links of such a name cause a warning."""
    named = sorted(folder.glob("rank*.jsonl"))
    for file in named:
        if not file.is_file():
            log.warning("%s is %s. It is ignored", file, "a broken link" if file.is_symlink() else "not a file")
    return [file for file in named if file.is_file()]


def journals_in(folder: FilePath) -> list[FilePath]:
    """Returns the journals that are directly in a folder, the newest first."""
    changed = {file.parent: file.stat().st_mtime for file in folder.glob("*/rank*.jsonl") if file.is_file()}
    return sorted(changed, key=changed.__getitem__, reverse=True)


def read_entries(files: Iterable[FilePath]) -> Iterator[JournalEntry | DamagedLine]:
    """Yields the entries and the damaged lines of journal files in order.

    A question that failed in one run and was finished by a later one has an entry of each kind.

    Raises:
        AtomThinkError: A file cannot be read.
    """
    for file in files:
        for line in read_log(file, decode):
            if isinstance(line, DamagedLine):
                yield line
                continue
            try:
                yield _entry(line)
            except (ValueError, KeyError, TypeError) as error:
                reason = f"not a record of a question ({type(error).__name__}: {error})"
                yield DamagedLine(line.file, line.number, _line_at(line.file, line.start), reason)


def load_outcome(file: FilePath, start: int) -> Outcome:
    """Reads one outcome with its tree.

    Args:
        file: The file of a journal.
        start: The byte the record's line starts at.

    Raises:
        OSError: Or ValueError, KeyError, TypeError: there is no such record.
    """
    return outcome_of(decode(_line_at(file, start))["outcome"])


def outcome_of(record: Mapping[str, Any]) -> Outcome:
    """Returns an outcome as it was before it was written.

    Raises:
        KeyError: Or TypeError: the record is not an outcome.
    """
    values = {item.name: record[item.name] for item in fields(Outcome) if item.name != "rollouts"}
    values["usage"] = Usage(**record["usage"])
    values["nodes"] = tuple(Node(**node) for node in record["nodes"])
    # Older journals have no rollouts.
    values["rollouts"] = tuple(Rollout(**rollout) for rollout in record.get("rollouts", ()))
    values["steps"], values["scores"] = tuple(record["steps"]), tuple(record["scores"])
    return Outcome(**values)


def _entry(line: LogEntry) -> JournalEntry:
    record = line.record
    result: Result
    if record["status"] == "done":
        result = outcome_of(record["outcome"])
    else:
        result = Failure(record["failure"]["reason"], Usage(**record["failure"]["usage"]))
    images = record.get("images")
    if images is not None and not all(isinstance(name, str) for name in images):
        raise TypeError("its images are not names")
    return JournalEntry(
        file=line.file,
        number=line.number,
        start=line.start,
        key=_text(record, "key"),
        question=_text(record, "question"),
        text=_text(record, "text"),
        choices=tuple(map(str, record.get("choices", ()))),
        images=None if images is None else tuple(images),
        result=result,
    )


def _text(record: Mapping[str, Any], name: str) -> str:
    if not isinstance(value := record[name], str):
        raise TypeError(f"its {name} is not a text")
    return value


def _line_at(file: FilePath, start: int) -> bytes:
    with file.open("rb") as content:
        content.seek(start)
        return content.readline()
