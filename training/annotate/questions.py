"""What is annotated: questions of a JSONL file or of a dataset, in one form, their images in one folder."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any, Final

from PIL import Image
from pydantic import ConfigDict, ValidationError

from atomthink_plugin.answers import equivalent
from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.training.images import BROKEN, as_stored
from atomthink_plugin.training.records import (
    MaybeText,
    QuestionRecord,
    Reject,
    Text,
    describe_error,
    json_rows,
    nothing_usable,
)

IMAGES: Final = "images"

Row = Mapping[str, Any]

NAMES: Final[Mapping[str, Sequence[str]]] = {
    "id": ("id", "pid", "question_id", "qid", "index"),
    "question": ("question", "problem", "query", "prompt"),
    "images": ("images", "decoded_image", "image", "picture"),
    "answer": ("answer", "final_answer", "ground_truth", "target", "label"),
    "solution": ("solution", "rationale", "explanation", "reference_solution"),
    "options": ("options", "choices"),
    "source": ("source", "dataset"),
}
"""Columns that are looked for, the likeliest first."""

_TAG: Final = re.compile(r"[ \t]*<image(?:_?1)?>", re.IGNORECASE)
_LETTER: Final = re.compile(r"\(?([A-J])\)?\.?")
_SUFFIX: Final = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp", "GIF": "gif", "BMP": "bmp"}


class Item(QuestionRecord):
    """One question with its right answer; its images are relative to the output's folder.

    Attributes:
        answer: The right answer.
        solution: A person's, empty if there is none.
        options: Texts in order, empty for free answers.
        source: Where it is from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    answer: Text
    solution: MaybeText = ""
    options: tuple[str, ...] = ()
    source: str = ""

    def right(self, answer: str) -> bool:
        """Returns whether an answer is the right one: by equivalence, or as the text of the right option."""
        if equivalent(answer, self.answer):
            return True
        letter = _LETTER.fullmatch(self.answer.strip())
        at = ord(letter[1]) - ord("A") if letter else len(self.options)
        if at >= len(self.options) or _LETTER.fullmatch(answer.strip()):
            return False
        meant = [index for index, option in enumerate(self.options) if equivalent(answer, option)]
        return meant == [at]


@dataclass(frozen=True, slots=True)
class Items:
    """Everything a source holds: items and the unusable together are all its records."""

    items: Sequence[Item]
    unusable: Sequence[Reject]


def read_items(
    source: str,
    out: Path,
    *,
    split: str | None = None,
    columns: Mapping[str, str] | None = None,
    limit: int | None = None,
) -> Items:
    """Returns a source's questions; their images are written into `images/` of the output's folder.

    Args:
        source: A file of JSON lines or of a JSON list, a folder or a name on the hub that `datasets` loads.
        out: The output's folder.
        split: Of a dataset; needed where it has several.
        columns: Names of columns, by ours: `{"question": "problem"}`. Others are looked for by their usual names.
        limit: Only so many records, from the first.

    Raises:
        AtomThinkError: The source cannot be read or has no such split or column, or no record.
    """
    file = Path(source)
    if file.suffix in (".jsonl", ".json") and not file.is_dir():
        records, names, folder = json_rows(file), None, file.parent
    else:
        records, names, folder = _from_dataset(source, split)
    rows, unusable = _objects(islice(records, limit))
    if not rows:
        raise nothing_usable(source, unusable)
    known = names if names is not None else {name: None for _, row in rows for name in row}
    chosen = _columns(known, columns or {}, source)
    items: dict[str, Item] = {}
    for where, row in rows:
        try:
            item = _item(row, chosen, where, folder, out)
        except ValidationError as error:
            unusable.append(Reject(where, describe_error(error), row))
        except BROKEN as error:
            unusable.append(Reject(where, f"image: {type(error).__name__}: {error}", row))
        else:
            if item.id in items:
                unusable.append(Reject(where, f"the id {item.id!r} occurred before", row))
            else:
                items[item.id] = item
    return Items(list(items.values()), unusable)


def _objects(records: Iterable[tuple[str, Any]]) -> tuple[list[tuple[str, Row]], list[Reject]]:
    """Returns the records that are objects, and what else there is."""
    rows: list[tuple[str, Row]] = []
    others: list[Reject] = []
    for where, row in records:
        if isinstance(row, Reject):
            others.append(Reject(where, row.reason, {"line": row.record}))
        elif not isinstance(row, dict):
            others.append(Reject(where, "no JSON object", {"line": row}))
        else:
            rows.append((where, row))
    return rows, others


def _from_dataset(source: str, split: str | None) -> tuple[Iterator[tuple[str, Any]], Mapping[str, Any], Path]:
    """Returns a dataset's rows, images as they are stored, its columns with their kinds, and its folder."""
    import datasets

    try:
        found = datasets.load_dataset(source)
    except Exception as error:  # datasets raises whatever its readers do
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise AtomThinkError(f"{source!r} is neither a JSONL file nor a dataset that can be loaded: {reason}") from None
    if split is None and len(found) == 1:
        split = next(iter(found))
    if split not in found:
        given = "" if split is None else f"`--split {split}`: "
        raise AtomThinkError(f"{given}{source} has the splits {', '.join(found)}: name one of them with `--split`")
    data = as_stored(found[split])
    rows = ((f"{Path(source).name}/{split}:{index}", row) for index, row in enumerate(data))
    return rows, data.features, Path(source)


def _columns(known: Mapping[str, Any], typed: Mapping[str, str], source: str) -> dict[str, str]:
    """Returns the column of each field: what was typed, else the first usual name; pictures before their paths."""
    for field, column in typed.items():
        if field not in NAMES:
            raise AtomThinkError(f"`--columns {field}={column}`: fields are {', '.join(NAMES)}")
        if column not in known:
            raise AtomThinkError(f"`--columns {field}={column}`: {source} has the columns {', '.join(known)}")
    chosen = dict(typed)
    for field, usual in NAMES.items():
        there = [name for name in usual if name in known and name not in typed.values()]
        if field == "images":
            there.sort(key=lambda name: not _holds_pictures(known[name]))
        if field not in chosen and there:
            chosen[field] = there[0]
    for field in ("question", "answer"):
        if field not in chosen:
            raise AtomThinkError(
                f"{source} has no column for the {field}, only {', '.join(known)}: name one with "
                f"`--columns {field}=NAME`"
            )
    return chosen


def _holds_pictures(kind: Any) -> bool:
    return "Image" in type(kind).__name__ or "Image" in type(getattr(kind, "feature", None)).__name__


def _item(row: Row, columns: Mapping[str, str], where: str, folder: Path, out: Path) -> Item:
    given = {field: row.get(column) for field, column in columns.items()}
    images = _several(given.pop("images", None))
    options = [str(option) for option in _several(given.get("options"))]
    question = given.get("question")
    if isinstance(question, str):
        given["question"] = _asked(question if "<image2>" in question else _TAG.sub("", question), options)
    given = {name: value for name, value in given.items() if value is not None} | {"options": options}
    item = Item.model_validate({"id": where, **given})
    return item.model_copy(update={"images": tuple(saved(image, folder, out) for image in images)})


def _asked(question: str, options: Sequence[str]) -> str:
    """Returns the question with its options as MATH-Vision asks them."""
    if not options:
        return question.strip()
    listed = "\n".join(f"{chr(ord('A') + index)}. {option}" for index, option in enumerate(options))
    return f"{question.strip()}\nChoices: {listed}"


def _several(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    return [one for one in value if one is not None] if isinstance(value, list | tuple) else [value]


def saved(image: Any, folder: Path, out: Path) -> str:
    """Checks a picture and returns its file, named by what is in it.

    Raises:
        OSError: It cannot be read; SyntaxError and ValueError come from Pillow as well.
        AtomThinkError: It cannot be written.
    """
    data = image.get("bytes") if isinstance(image, dict) else None
    if data is None:
        path = image.get("path") if isinstance(image, dict) else image
        if not isinstance(path, str):
            raise ValueError(f"a picture is a file's name, not {type(path).__name__}")
        data = (folder / path).read_bytes()
    with Image.open(BytesIO(data)) as picture:
        picture.load()
        suffix = _SUFFIX.get(picture.format or "")
        if suffix is None:
            png = BytesIO()
            picture.convert("RGB").save(png, "PNG")
            data, suffix = png.getvalue(), "png"
    name = f"{IMAGES}/{hashlib.blake2b(data, digest_size=10).hexdigest()}.{suffix}"
    if not (out / name).exists():
        part = out / f"{name}.part"
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(data)
            part.replace(out / name)
        except OSError as error:
            raise AtomThinkError(f"`--out {out}` cannot be written: {error.strerror}") from None
    return name
