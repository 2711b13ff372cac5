"""Journals, read without loading their trees: those of thousands of questions may not fit in memory."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from atomthink_plugin.api import AtomThinkError, Outcome, Usage
from atomthink_plugin.runtime.build import journal_folder
from atomthink_plugin.runtime.journal import outcome_of
from atomthink_plugin.runtime.records import decode, lines, rank_files

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
        with self.file.open("rb") as file:
            file.seek(self.start)
            return outcome_of(decode(file.readline())["outcome"])


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
    for file in rank_files(folder):
        for line in lines(file):
            try:
                entries.append(_entry(line.record(), file, line.start))
            except (ValueError, KeyError, TypeError):
                torn += 1
    return Kept(folder, settings, entries, torn)


def _entry(record: Mapping[str, Any], file: Path, start: int) -> Entry:
    task, _, doc_id, repeat = record["question"].rsplit("/", 3)
    done = record["status"] == "done"
    result = record["outcome"] if done else record["failure"]
    if done:
        outcome_of(result)
    return Entry(
        task=task,
        doc_id=int(doc_id),
        repeat=int(repeat),
        text=record["text"],
        choices=tuple(map(str, record.get("choices", ()))),
        reply=result["text"] if done else "",
        answer=result["answer"] if done else None,
        usage=Usage(**result["usage"]),
        stopped=result["stopped"] if done else None,
        failed=None if done else result["reason"],
        images=_images(record, file.parent),
        file=file,
        start=start,
    )


def _images(record: Mapping[str, Any], folder: Path) -> tuple[Path, ...] | None:
    names = record.get("images")
    if names is None:
        return None
    if any(not _IMAGE.fullmatch(name) for name in names):
        raise ValueError(f"names of images in {folder} are expected, not {names!r}")
    return tuple(folder / "images" / name for name in names)
