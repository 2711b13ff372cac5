"""Journals without their trees. The trees of thousands of questions may not fit in memory."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from atomthink_plugin.api import AtomThinkError, Failure, Outcome, Usage
from atomthink_plugin.append_log import DamagedLine
from atomthink_plugin.runtime.build import journal_folder
from atomthink_plugin.runtime.journal_reader import JournalEntry, load_outcome, rank_files, read_entries

_SETTINGS: Final = "settings.json"

_IMAGE: Final = re.compile(r"\w+\.(webp|jpg|png)")
"""A digest and a file extension. Names with a path could lead out of the journal's folder."""


@dataclass(frozen=True, slots=True)
class JournaledQuestion:
    """One record of a journal, without its tree.

    Attributes:
        task: The task of its question.
        doc_id: The index of the question in the task.
        repeat: The index of the request among those about the question.
        text: The text of the question.
        choices: Its options, empty for free-form questions and in journals that do not record them.
        reply: The chosen chain, empty if the question failed.
        answer: Its final answer, or None.
        usage: Its cost.
        stopped: Why the search ended, None if the question failed.
        failed: Why the question failed, None if it did not.
        images: Files with the thumbnails of its images, None in journals of versions without thumbnails.
        file: The file of the record.
        start: The byte in the file where the record starts.
    """

    task: str
    doc_id: int
    repeat: int
    text: str
    choices: tuple[str, ...]
    reply: str
    answer: str | None
    usage: Usage
    stopped: str | None
    failed: str | None
    images: tuple[Path, ...] | None
    file: Path
    start: int

    def load(self) -> Outcome | None:
        """Reads the outcome with its tree, None if the question failed."""
        if self.failed is not None:
            return None
        return load_outcome(self.file, self.start)


@dataclass(frozen=True, slots=True)
class JournalContents:
    """The contents of a journal.

    Attributes:
        folder: The folder.
        settings: Everything that changes the results of the run.
        entries: The finished and failed questions in the order of their records.
        damaged: Number of lines that are damaged or are not records of this format.
    """

    folder: Path
    settings: Mapping[str, Any]
    entries: Sequence[JournaledQuestion]
    damaged: int


def is_journal(folder: Path) -> bool:
    """Returns whether a folder is the journal of a run configuration."""
    return (folder / _SETTINGS).is_file()


def find_journal(name: str, given: Path | None, places: Sequence[Path]) -> Path | None:
    """Returns the folder of a run's journal, or None.

    Args:
        name: The folder's name, empty if the samples do not state it.
        given: The value of `--journal`: the folder or its parent.
        places: Other parent folders. The user's cache is searched last.

    Raises:
        AtomThinkError: `given` does not contain the journal.
    """
    if given is not None:
        if name and is_journal(given / name):
            return given / name
        if is_journal(given) and name in ("", given.resolve().name):
            return given
        if not name:
            raise AtomThinkError(
                f"`--journal {given}` is not a journal, and the run does not state its name. Name the journal's folder"
            )
        raise AtomThinkError(f"`--journal {given}` does not contain `{name}`. Name that folder or its parent")
    cache = journal_folder(None)
    folders = [place / name for place in (*places, *([cache] if cache else []))] if name else []
    return next((folder for folder in folders if is_journal(folder)), None)


def read_journal(folder: Path) -> JournalContents:
    """Reads a journal. Damaged lines and other records are counted and skipped.

    Raises:
        AtomThinkError: The folder is not a journal.
    """
    try:
        settings = json.loads((folder / _SETTINGS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AtomThinkError(f"`{folder}` is not a journal, because its {_SETTINGS} cannot be read ({error})") from None
    entries: list[JournaledQuestion] = []
    damaged = 0
    for line in read_entries(rank_files(folder)):
        try:
            if isinstance(line, DamagedLine):
                raise ValueError(line.reason)
            entries.append(_entry(line))
        except ValueError:
            damaged += 1
    return JournalContents(folder, settings, entries, damaged)


def _entry(entry: JournalEntry) -> JournaledQuestion:
    task, _, doc_id, repeat = entry.question.rsplit("/", 3)
    done = entry.result if isinstance(entry.result, Outcome) else None
    return JournaledQuestion(
        task=task,
        doc_id=int(doc_id),
        repeat=int(repeat),
        text=entry.text,
        choices=entry.choices,
        reply=done.text if done else "",
        answer=done.answer if done else None,
        usage=entry.result.usage,
        stopped=done.stopped if done else None,
        failed=entry.result.reason if isinstance(entry.result, Failure) else None,
        images=_images(entry),
        file=entry.file,
        start=entry.start,
    )


def _images(entry: JournalEntry) -> tuple[Path, ...] | None:
    if entry.images is None:
        return None
    if any(not _IMAGE.fullmatch(name) for name in entry.images):
        raise ValueError(f"{entry.place} does not have file names as images: {entry.images!r}")
    return tuple(entry.file.parent / "images" / name for name in entry.images)
