"""Reads the finished searches of journals, for preference pairs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from atomthink_plugin.api import AtomThinkError, Outcome
from atomthink_plugin.runtime.journal import outcome_of
from atomthink_plugin.runtime.records import lines, rank_files
from atomthink_plugin.training.jsonl import entries
from atomthink_plugin.training.pairs.tally import Tally
from atomthink_plugin.training.records import Reject


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
            raise AtomThinkError(f"{source} is no journal: it has no rank*.jsonl; name the folder with settings.json")
        return files
    _, first = next(entries(source), ("", None))
    return [source] if isinstance(first, dict) and ("outcome" in first or "failure" in first) else []


def finished(files: Sequence[Path], tally: Tally) -> Iterator[Search]:
    """Yields every finished search of a journal. A search that failed counts only if no later run finished it."""
    done: set[str] = set()
    failed: dict[str, Reject] = {}
    for file in files:
        for line in lines(file):
            where = f"{file.name}:{line.number}"
            try:
                record = line.record()
                key, name = record["key"], record["question"]
                if record["status"] != "done":
                    failed[key] = Reject(where, f"it failed: {record['failure']['reason']}", {"question": name})
                    continue
                search = Search(where, name, record["text"], outcome_of(record["outcome"]))
            except (ValueError, KeyError, TypeError):
                text = line.content.decode("utf-8", "replace").strip()
                tally.aside("lines of a journal", [Reject(where, "torn, or of no search", text)])
                continue
            done.add(key)
            yield search
    tally.aside("searches", [reject for key, reject in failed.items() if key not in done])
