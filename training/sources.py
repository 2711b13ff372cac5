"""Reads the rows of a source, see `source_rows`, as questions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.inference.image_input import BROKEN
from atomthink_plugin.json_rows import Reject, describe_error, nothing_usable
from atomthink_plugin.rollouts.rollout_set import with_options
from atomthink_plugin.source_rows import Source, SourceRow, has_images, open_source
from atomthink_plugin.training.images import store_image
from atomthink_plugin.training.records import AnsweredQuestion, RecordFile

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

_IMAGE_TAG: Final = re.compile(r"[ \t]*<image(?:_?1)?>", re.IGNORECASE)


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
            there.sort(key=lambda column: not has_images(source.columns[column]))
        if field not in chosen and there:
            chosen[field] = there[0]
    for field in ("question", "answer"):
        if field not in chosen:
            raise AtomThinkError(
                f"{source.name} has no column for the {field}, only {', '.join(source.columns)}: name one with "
                f"`--columns {field}=NAME`"
            )
    return chosen


def _question(row: SourceRow, columns: Mapping[str, str], out: Path) -> AnsweredQuestion:
    """Returns a row as a question. Raises ValueError if it is not one."""
    given = {field: row.fields.get(column) for field, column in columns.items()}
    images = _as_list(given.pop("images", None))
    options = [str(option) for option in _as_list(given.get("options"))]
    text = given.get("question")
    if isinstance(text, str):
        given["question"] = with_options(text if "<image2>" in text else _IMAGE_TAG.sub("", text), options)
    present = {field: value for field, value in given.items() if value is not None}
    question = AnsweredQuestion.model_validate({"id": row.where, **present, "options": options})
    if not question.answer:
        raise ValueError("answer: missing or empty")
    try:
        return question.model_copy(update={"images": tuple(store_image(image, row.folder, out) for image in images)})
    except BROKEN as error:
        raise ValueError(f"image: {type(error).__name__}: {error}") from None


def _as_list(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    return [one for one in value if one is not None] if isinstance(value, list | tuple) else [value]
