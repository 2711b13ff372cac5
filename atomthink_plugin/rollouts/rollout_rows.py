"""Rows of files of candidates: JSON, tables, spreadsheets and logs of Inspect, compressed or not."""

from __future__ import annotations

import csv
import io
import json
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.json_rows import Reject, json_rows, open_binary
from atomthink_plugin.rollouts.zip_members import read_member
from atomthink_plugin.source_rows import SourceRow, open_source

_PICKLES: Final = (".pkl", ".pickle", ".pk", ".pt", ".pth")
KEPT_SCORES: Final = ".scores.jsonl"
"""Ending of the file that keeps the scores of candidates; a folder's candidates are not in it."""

_LONGEST_CELL: Final = 2**31 - 1


def rollout_rows(source: str, images: Path | None = None) -> Iterator[SourceRow | Reject]:
    """Yields the rows of a source.

    Args:
        source: A file, a folder of files, or a dataset of the hub.
        images: The folder that names of images are relative to; None for the folder of the file.

    Raises:
        AtomThinkError: The source cannot be read.
    """
    path = Path(source).expanduser()
    if _kind(path) in _PICKLES:
        raise AtomThinkError(
            f"{path}: opening a pickle can run any code, so it is not opened. Convert it to JSON where it was written"
        )
    if path.is_file() and _kind(path) not in (*_OPENERS, ".parquet"):
        readable = ", ".join((*_OPENERS, ".parquet"))
        raise AtomThinkError(f"{path}: a file that ends with {path.suffix!r} is not read. Readable are {readable}")
    files = _files(path)
    rows = (row for file in files for row in _opened(file)) if files else open_source(source, all_splits=True).rows
    for row in rows:
        yield replace(row, folder=images) if images is not None and isinstance(row, SourceRow) else row


def _files(path: Path) -> list[Path]:
    """Returns the files that this module opens. `datasets` opens all others, and folders with parquet files."""
    if path.is_file():
        return [path] if _kind(path) in _OPENERS else []
    if not path.is_dir() or any(path.glob("*.parquet")) or any(path.glob("data/*.parquet")):
        return []
    files = [file for file in sorted(path.iterdir()) if file.is_file() and _kind(file) in _OPENERS]
    return [file for file in files if not file.name.endswith(KEPT_SCORES)]


def _kind(file: Path) -> str:
    return Path(file.name.removesuffix(".gz")).suffix


def _opened(file: Path) -> Iterator[SourceRow | Reject]:
    try:
        yield from _OPENERS[_kind(file)](file)
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, csv.Error, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise AtomThinkError(f"{file} cannot be read: {reason}") from None


def _row(file: Path, where: str, fields: Mapping[str, Any]) -> SourceRow:
    return SourceRow(where, file.name.removesuffix(".gz").rpartition(".")[0], file.parent, fields)


def _json(file: Path) -> Iterator[SourceRow | Reject]:
    for where, row in json_rows(file):
        if isinstance(row, Reject):
            yield row
        elif not isinstance(row, dict):
            yield Reject(where, "no JSON object", row)
        elif isinstance(row.get("samples"), list) and "eval" in row:  # a whole log of Inspect
            for number, sample in enumerate(row["samples"], start=1):
                yield _row(file, f"{where}, sample {number}", sample if isinstance(sample, dict) else {})
        else:
            yield _row(file, where, row)


def _table(delimiter: str) -> Callable[[Path], Iterator[SourceRow | Reject]]:
    def rows(file: Path) -> Iterator[SourceRow | Reject]:
        csv.field_size_limit(_LONGEST_CELL)  # images in base64 are longer than the default
        with open_binary(file) as content:
            text = io.TextIOWrapper(content, encoding="utf-8-sig", errors="replace", newline="")
            reader = csv.DictReader(text, delimiter=delimiter, restkey="")
            for number, fields in enumerate(reader, start=1):
                where = f"{file.name}:{number}"
                if "" in fields or None in fields.values():
                    yield Reject(where, f"not {len(reader.fieldnames or ())} cells", dict(fields))
                else:
                    yield _row(file, where, fields)

    return rows


def _spreadsheet(file: Path) -> Iterator[SourceRow | Reject]:
    import openpyxl

    try:
        book = openpyxl.load_workbook(file, read_only=True)
    except (KeyError, ValueError) as error:  # a zip file of another kind
        raise AtomThinkError(f"{file} is no spreadsheet: {error}") from None
    try:
        lines = book.worksheets[0].iter_rows(values_only=True)
        names: Sequence[Any] = next(lines, ())
        for number, cells in enumerate(lines, start=1):
            found = {str(name): cell for name, cell in zip(names, cells, strict=False) if name is not None}
            yield _row(file, f"{file.name}:{number}", found)
    finally:
        book.close()


def _inspect_log(file: Path) -> Iterator[SourceRow | Reject]:
    with zipfile.ZipFile(file) as log:
        for member in log.infolist():
            name = member.filename
            if name.startswith("samples/") and name.endswith(".json"):
                where = f"{file.name}:{name.removeprefix('samples/')}"
                try:
                    fields = json.loads(read_member(log, member))
                except (ValueError, RecursionError) as error:
                    yield Reject(where, f"no JSON: {error}", None)
                else:
                    yield _row(file, where, fields)


_OPENERS: Final[Mapping[str, Callable[[Path], Iterator[SourceRow | Reject]]]] = {
    ".json": _json,
    ".jsonl": _json,
    ".csv": _table(","),
    ".tsv": _table("\t"),
    ".xlsx": _spreadsheet,
    ".eval": _inspect_log,
}
