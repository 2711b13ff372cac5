"""Reads the finished searches of journals, for preference pairs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from atomthink_plugin.api import AtomThinkError, Outcome
from atomthink_plugin.append_log import DamagedLine
from atomthink_plugin.runtime.journal_reader import journals_in, rank_files, read_entries
from atomthink_plugin.training.pairs.tally import Tally
from atomthink_plugin.training.records import Reject, json_rows


class Search(NamedTuple):
    """A finished search of a journal: its place, the question's id, the question's text, and the whole tree."""

    where: str
    question: str
    text: str
    outcome: Outcome


def journal_files(source: Path) -> list[Path]:
    """Returns the files of a journal: those of a folder, or the file itself. Empty if `source` is no journal.

    Raises:
        AtomThinkError: `source` does not exist.
    """
    if source.is_dir():
        files = rank_files(source)
        if not files:
            journals = ", ".join(map(str, journals_in(source)))
            hint = f"name one of its journals, newest first: {journals}" if journals else "name a journal's folder"
            raise AtomThinkError(f"{source} is no journal, it has no rank*.jsonl; {hint}")
        return files
    _, first = next(json_rows(source), ("", None))
    return [source] if isinstance(first, dict) and ("outcome" in first or "failure" in first) else []


def finished(files: Sequence[Path], tally: Tally) -> Iterator[Search]:
    """Yields every finished search of a journal. A search that failed counts only if no later run finished it."""
    done: set[str] = set()
    failed: dict[str, Reject] = {}
    for entry in read_entries(files):
        if isinstance(entry, DamagedLine):
            text = entry.content.decode("utf-8", "replace").strip()
            tally.aside("lines of a journal", [Reject(entry.place, "torn, or of no search", text)])
        elif isinstance(entry.result, Outcome):
            done.add(entry.key)
            yield Search(entry.place, entry.question, entry.text, entry.result)
        else:
            failed[entry.key] = Reject(entry.place, f"it failed: {entry.result.reason}", {"question": entry.question})
    tally.aside("searches", [reject for key, reject in failed.items() if key not in done])
