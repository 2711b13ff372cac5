"""Rows of data that other people made: a JSON, parquet or CSV file, a folder of such files, or a dataset of the hub."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.json_rows import Reject, json_rows

_JSON: Final = (".jsonl", ".json")
_TABLES: Final = {".parquet": "parquet", ".csv": "csv"}
_SHARD: Final = re.compile(r"-\d+-of-\d+$")


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A row of a source.

    Attributes:
        where: Unique in the source: file and line, or split and index.
        split: Name of the split of a dataset; for files the file name without its ending.
        folder: What image file names are relative to.
        fields: Values by column. Images of a dataset are not decoded: they are mappings with `bytes` and `path`.
    """

    where: str
    split: str
    folder: Path
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Source:
    """An opened source: its name, the type of each column (None if not declared), and its rows, to be read once."""

    name: str
    columns: Mapping[str, Any]
    rows: Iterable[SourceRow | Reject]


def open_source(name: str, *, split: str | None = None, all_splits: bool = False, limit: int | None = None) -> Source:
    """Opens a source.

    Args:
        name: A file (.jsonl, .json, .parquet, .csv), a folder with such files in it or in its `data/`, or whatever else
            `datasets.load_dataset` takes. Each file of a folder is a split of its name, shards of a split together.
        split: The split to read; needed if there are several.
        all_splits: Reads all splits, one after another, if `split` is None.
        limit: Reads only the first rows.

    Raises:
        AtomThinkError: The source cannot be read, or has no such split, or has several and none is chosen.
    """
    path = Path(name).expanduser()
    files = _data_files(path)
    splits: Mapping[str, Any] = files or _load(name)
    chosen = list(splits) if split is None else [split]
    if not set(chosen) <= splits.keys() or (len(chosen) > 1 and not all_splits):
        given = "" if split is None else f"`--split {split}`: "
        raise AtomThinkError(f"{given}{name} has the splits {', '.join(splits)}: choose one with `--split`")
    if files:
        parts = [_file_rows(file, one) for one in chosen for file in files[one]]
    else:
        parts = [_table_rows(f"{path.name}/{one}", one, path, splits[one]) for one in chosen]
    columns = {column: kind for _, types in parts for column, kind in types.items()}
    return Source(name, columns, islice(chain.from_iterable(rows for rows, _ in parts), limit))


def _data_files(path: Path) -> dict[str, list[Path]]:
    """Returns the files of each split, empty if `path` is neither a data file nor a folder of data files."""
    known = (*_JSON, *_TABLES)
    found = [path] if path.suffix in known and not path.is_dir() else []
    if path.is_dir() and not any(path.glob("metadata.*")):  # with metadata, it is an image folder for `datasets`
        found = [file for file in sorted((*path.iterdir(), *path.glob("data/*"))) if file.suffix in known]
    splits: dict[str, list[Path]] = {}
    for file in found:
        splits.setdefault(_SHARD.sub("", file.stem), []).append(file)
    return splits


def _file_rows(file: Path, split: str) -> tuple[Iterable[SourceRow | Reject], Mapping[str, Any]]:
    if builder := _TABLES.get(file.suffix):
        return _table_rows(file.name, split, file.parent, _load(builder, data_files=str(file))["train"])
    rows: list[SourceRow | Reject] = []
    for where, row in json_rows(file):
        if isinstance(row, dict):
            rows.append(SourceRow(where, split, file.parent, row))
        else:
            rows.append(row if isinstance(row, Reject) else Reject(where, "no JSON object", row))
    return rows, {column: None for row in rows if isinstance(row, SourceRow) for column in row.fields}


def _load(name: str, **options: Any) -> Any:
    import datasets

    try:
        return datasets.load_dataset(name, **options)
    except Exception as error:  # `datasets` raises whatever its readers and the network raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        what = options.get("data_files", name)
        raise AtomThinkError(f"{what} cannot be read as a file, a folder or a dataset of the hub: {reason}") from None


def _table_rows(
    name: str, split: str, folder: Path, table: Any
) -> tuple[Iterable[SourceRow | Reject], Mapping[str, Any]]:
    """Returns the rows of a `datasets.Dataset`, images as they are stored, and the types of its columns."""
    import datasets

    columns = dict(table.features)
    for column, kind in columns.items():
        if has_images(kind):
            stored = datasets.Image(decode=False)
            table = table.cast_column(column, stored if isinstance(kind, datasets.Image) else datasets.List(stored))
    return (SourceRow(f"{name}:{at}", split, folder, row) for at, row in enumerate(table)), columns


def has_images(kind: Any) -> bool:
    """Returns whether a column of `datasets` holds images."""
    return "Image" in type(kind).__name__ or "Image" in type(getattr(kind, "feature", None)).__name__
