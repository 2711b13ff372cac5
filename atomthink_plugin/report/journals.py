"""Journals, read without loading their trees: those of thousands of questions may not fit in memory."""

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
"""A digest and an ending: a name with a path in it could lead out of the journal's folder."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One record of a journal, without its tree.

    Attributes:
        task: The task of its question.
        doc_id: Which of the task's questions.
        repeat: Its number among the requests about that question.
        text: The question as asked.
        choices: Its options, empty for free-form questions and in journals that do not record them.
        reply: The chosen chain, empty where it failed.
        answer: Its final answer, None where it has none.
        usage: What it cost.
        stopped: Why the search ended, None where it failed.
        failed: Why it failed, None where it did not.
        images: Files with the thumbnails of its images, None in a journal of a version that kept none.
        file: Where the record is.
        start: At which byte of the file.
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
        """Reads the outcome with its tree; None where the question failed."""
        if self.failed is not None:
            return None
        return load_outcome(self.file, self.start)


@dataclass(frozen=True, slots=True)
class Kept:
    """A journal's folder.

    Attributes:
        folder: The folder.
        settings: Everything that changes the run's results.
        entries: Records in the order they were written, finished and failed.
        torn: How many lines are damaged or not records of this format.
    """

    folder: Path
    settings: Mapping[str, Any]
    entries: Sequence[Entry]
    torn: int


def is_journal(folder: Path) -> bool:
    """Returns whether a folder is one run configuration's journal."""
    return (folder / _SETTINGS).is_file()


def find_journal(name: str, given: Path | None, places: Sequence[Path]) -> Path | None:
    """Returns the folder of the journal that a run names.

    Args:
        name: The folder's name; empty if the samples name none.
        given: The value of `--journal`: the folder, or its parent.
        places: Other parent folders; the user's cache is searched last.

    Raises:
        AtomThinkError: `given` holds no such journal.
    """
    if given is not None:
        if name and is_journal(given / name):
            return given / name
        if is_journal(given) and name in ("", given.resolve().name):
            return given
        if not name:
            raise AtomThinkError(
                f"`--journal {given}` is no journal, and the run names none: name the journal's folder"
            )
        raise AtomThinkError(f"`--journal {given}` has no `{name}`: name that journal's folder, or the one it lives in")
    cache = journal_folder(None)
    folders = [place / name for place in (*places, *([cache] if cache else []))] if name else []
    return next((folder for folder in folders if is_journal(folder)), None)


def read_journal(folder: Path) -> Kept:
    """Reads a journal; lines that are damaged or not records of this format are counted and left out.

    Raises:
        AtomThinkError: It is no journal.
    """
    try:
        settings = json.loads((folder / _SETTINGS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AtomThinkError(f"`{folder}` is no journal, its {_SETTINGS} cannot be read: {error}") from None
    entries: list[Entry] = []
    torn = 0
    for line in read_entries(rank_files(folder)):
        try:
            if isinstance(line, DamagedLine):
                raise ValueError(line.reason)
            entries.append(_entry(line))
        except ValueError:
            torn += 1
    return Kept(folder, settings, entries, torn)


def _entry(entry: JournalEntry) -> Entry:
    task, _, doc_id, repeat = entry.question.rsplit("/", 3)
    done = entry.result if isinstance(entry.result, Outcome) else None
    return Entry(
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
