"""Reads data that other people made: a JSON, parquet or CSV file, a folder of such files, or a dataset of the hub.

`open_source` yields rows as they are, for formats with their own fields. `read_questions` reads rows as questions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.training.images import BROKEN, store_image
from atomthink_plugin.training.records import (
    AnsweredQuestion,
    RecordFile,
    Reject,
    describe_error,
    json_rows,
    nothing_usable,
)

COLUMNS: Final[Mapping[str, Sequence[str]]] = {
    "id": ("id", "pid", "question_id", "qid", "index"),
    "question": ("question", "problem", "query", "prompt"),
    "images": ("images", "decoded_image", "image", "picture"),
    "answer": ("answer", "final_answer", "ground_truth", "target", "label"),
    "solution": ("solution", "rationale", "explanation", "reference_solution"),
    "options": ("options", "choices"),
    "source": ("source", "dataset"),
}
"""Usual columns of each field of a question, the most likely first."""

_JSON: Final = (".jsonl", ".json")
_TABLES: Final = {".parquet": "parquet", ".csv": "csv"}
_SHARD: Final = re.compile(r"-\d+-of-\d+$")
_IMAGE_TAG: Final = re.compile(r"[ \t]*<image(?:_?1)?>", re.IGNORECASE)


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
        if _has_images(kind):
            stored = datasets.Image(decode=False)
            table = table.cast_column(column, stored if isinstance(kind, datasets.Image) else datasets.List(stored))
    return (SourceRow(f"{name}:{at}", split, folder, row) for at, row in enumerate(table)), columns


def read_questions(
    name: str,
    out: Path,
    *,
    split: str | None = None,
    columns: Mapping[str, str] | None = None,
    limit: int | None = None,
) -> RecordFile[AnsweredQuestion]:
    """Reads a source, see `open_source`, as questions, and copies their images to `out/images`.

    `columns` has the column of a field, as `{"question": "problem"}`. Other fields are found by their usual names.

    Raises:
        AtomThinkError: The source cannot be read, has no such split or column, or has no usable question.
    """
    source = open_source(name, split=split, limit=limit)
    found: dict[str, AnsweredQuestion] = {}
    rejects: list[Reject] = []
    chosen: Mapping[str, str] | None = None
    for row in source.rows:
        if isinstance(row, Reject):
            rejects.append(row)
            continue
        chosen = chosen or _chosen_columns(source, columns or {})
        try:
            question = _question(row, chosen, out)
            if question.id in found:
                raise ValueError(f"the id {question.id!r} occurred before")
        except ValueError as error:
            rejects.append(Reject(row.where, describe_error(error), row.fields))
        else:
            found[question.id] = question
    if not found:
        raise nothing_usable(name, rejects)
    return RecordFile(out, list(found.values()), rejects)


def read_columns(text: str) -> dict[str, str]:
    """Returns the columns of fields in `question=problem,images=picture`.

    Raises:
        AtomThinkError: It is not of this form.
    """
    pairs = [[side.strip() for side in pair.split("=", 1)] for pair in text.split(",") if pair.strip()]
    if not all(len(pair) == 2 and all(pair) for pair in pairs):
        raise AtomThinkError(f"`--columns {text}`: write it like question=problem,images=picture")
    return dict(pairs)


def _chosen_columns(source: Source, given: Mapping[str, str]) -> dict[str, str]:
    """Returns the column of each field: the given one, else the first usual one. Images come before file names."""
    for field, column in given.items():
        if field not in COLUMNS:
            raise AtomThinkError(f"`--columns {field}={column}`: fields are {', '.join(COLUMNS)}")
        if column not in source.columns:
            raise AtomThinkError(f"`--columns {field}={column}`: {source.name} has {', '.join(source.columns)}")
    chosen = dict(given)
    for field, usual in COLUMNS.items():
        there = [column for column in usual if column in source.columns and column not in given.values()]
        if field == "images":
            there.sort(key=lambda column: not _has_images(source.columns[column]))
        if field not in chosen and there:
            chosen[field] = there[0]
    for field in ("question", "answer"):
        if field not in chosen:
            raise AtomThinkError(
                f"{source.name} has no column for the {field}, only {', '.join(source.columns)}: name one with "
                f"`--columns {field}=NAME`"
            )
    return chosen


def _has_images(kind: Any) -> bool:
    return "Image" in type(kind).__name__ or "Image" in type(getattr(kind, "feature", None)).__name__


def _question(row: SourceRow, columns: Mapping[str, str], out: Path) -> AnsweredQuestion:
    """Returns a row as a question. Raises ValueError if it is not one."""
    given = {field: row.fields.get(column) for field, column in columns.items()}
    images = _as_list(given.pop("images", None))
    options = [str(option) for option in _as_list(given.get("options"))]
    text = given.get("question")
    if isinstance(text, str):
        given["question"] = _with_options(text if "<image2>" in text else _IMAGE_TAG.sub("", text), options)
    present = {field: value for field, value in given.items() if value is not None}
    question = AnsweredQuestion.model_validate({"id": row.where, **present, "options": options})
    if not question.answer:
        raise ValueError("answer: missing or empty")
    try:
        return question.model_copy(update={"images": tuple(store_image(image, row.folder, out) for image in images)})
    except BROKEN as error:
        raise ValueError(f"image: {type(error).__name__}: {error}") from None


def _with_options(question: str, options: Sequence[str]) -> str:
    """Returns the question with its options in the form of MATH-Vision."""
    listed = "\n".join(f"{chr(ord('A') + index)}. {option}" for index, option in enumerate(options))
    return f"{question.strip()}\nChoices: {listed}" if options else question.strip()


def _as_list(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    return [one for one in value if one is not None] if isinstance(value, list | tuple) else [value]
