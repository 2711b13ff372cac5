"""Rows of files of candidates: JSON, tables, spreadsheets and zipped logs, compressed or not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.json_rows import Reject, json_rows
from atomthink_plugin.source_rows import SourceRow, open_source

_PICKLES: Final = (".pkl", ".pickle", ".pt", ".pth")


def rollout_rows(source: str, images: Path | None = None) -> Iterator[SourceRow | Reject]:
    """Yields the rows of a source.

    Args:
        source: A file, a folder, or a dataset of the hub.
        images: The folder that names of images are relative to; None for the folder of the file.

    Raises:
        AtomThinkError: The source cannot be read.
    """
    for row in _rows(source):
        yield replace(row, folder=images) if images is not None and isinstance(row, SourceRow) else row


def _rows(source: str) -> Iterable[SourceRow | Reject]:
    file = Path(source).expanduser()
    kind = Path(file.name.removesuffix(".gz")).suffix
    if kind in _PICKLES:
        raise AtomThinkError(
            f"{file}: a pickle can run any code when it is opened, so it is not opened. Write its contents as JSON"
        )
    if file.is_file() and kind in (".json", ".jsonl"):
        return _json(file)
    return open_source(source, all_splits=True).rows


def _json(file: Path) -> Iterator[SourceRow | Reject]:
    split = file.name.removesuffix(".gz").rpartition(".")[0]
    for where, row in json_rows(file):
        if isinstance(row, dict):
            yield SourceRow(where, split, file.parent, row)
        else:
            yield row if isinstance(row, Reject) else Reject(where, "no JSON object", row)
