"""Reads the data files of a recipe and decides which rows are trained; a row is made when a batch needs it.

Records stay JSON in an in-memory `datasets.Dataset`. Neither tokens nor images are kept: images are read and prepared
by the process that makes the batch.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import torch
from datasets import Dataset, Features, List, Value, concatenate_datasets

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.inference.encoding import Encoding
from atomthink_plugin.json_rows import Reject, first_reason
from atomthink_plugin.training.records import QuestionRecord, RecordFile, read_records
from atomthink_plugin.training.train.collate import IGNORED, Batch, collate
from atomthink_plugin.training.train.recipe import DpoRecipe, PolicyRecipe, PrmRecipe
from atomthink_plugin.training.train.tokens import RowBuilder, TrainingRow

T = TypeVar("T")
R = TypeVar("R", bound=QuestionRecord)

_RECORD: Final = {"record": Value("string"), "folder": Value("string"), "format": Value("string")}
_MEASURED: Final = Features({**_RECORD, "error": Value("string"), "part_errors": List(Value("string"))})


@dataclass(frozen=True, slots=True)
class TrainingData(Generic[R]):
    """All rows of a training.

    Attributes:
        builder: Makes the rows.
        examples: Columns `record` (JSON), `folder` (of its images), `format`.
        parts: Columns `example` and `part`: what an epoch consists of.
        rejects: Records and parts that are not used.
        read: Number of records in the files, unusable ones included.
        rejected_parts: How many of the rejects are parts of records that are used.
    """

    builder: RowBuilder[R]
    examples: Dataset
    parts: Dataset
    rejects: Sequence[Reject]
    read: int
    rejected_parts: int

    @property
    def counts(self) -> str:
        """How many records are used, in one line."""
        rejected = len(self.rejects) - self.rejected_parts
        what = f"{self.builder.record_type.__name__.lower()}s"
        line = f"{what}: {self.read} read, {self.read - rejected} used, {rejected} rejected; {len(self.parts)} rows"
        return f"{line}, {self.rejected_parts} steps rejected" if self.rejected_parts else line

    def record(self, example: int) -> R:
        """Returns the record of an example."""
        return self.builder.record_type.model_validate_json(self.examples[example]["record"])

    def rows(self, item: Mapping[str, int]) -> list[TrainingRow]:
        """Returns the rows of one item of `parts`, with its images."""
        example = self.examples[item["example"]]
        return next(_parts(self.builder, example, only=item["part"]))


@dataclass(frozen=True, slots=True)
class RowCollator:
    """Makes the rows of a batch, in the process that loads the data.

    Attributes:
        data: All rows.
        pad_id: Fills short rows.
        spare: A sequence with an image for batches without one; see `collate`.
    """

    data: TrainingData[Any]
    pad_id: int
    spare: Encoding | None = None

    def __call__(self, items: Sequence[Mapping[str, int]]) -> Batch:
        """Returns the batch of some items of `data.parts`."""
        rows = [row for item in items for row in self.data.rows(item)]
        return collate(rows, self.pad_id, self.spare, self.data.builder.label_names)

    def with_spare(self) -> RowCollator:
        """Returns a collator with the first row that has an image to spare, or this one if no row has an image."""
        if self.data.builder.encoder is None:
            return self
        found = (item for item in self.data.parts if self.data.record(item["example"]).images)
        first = next(found, None)
        return self if first is None else replace(self, spare=self.data.rows(first)[0].encoding)


class PairCollator(RowCollator):
    """Makes the rows of a batch of pairs as trl's DPOTrainer takes them: all chosen rows, then all rejected ones."""

    def __call__(self, items: Sequence[Mapping[str, int]]) -> Batch:
        """Returns the batch of some items of `data.parts`."""
        sides = zip(*(self.data.rows(item) for item in items), strict=True)
        batch = collate([row for side in sides for row in side], self.pad_id)
        batch["completion_mask"] = (batch.pop("labels") != IGNORED).long()
        return batch


def read_training_data(
    recipe: PolicyRecipe | DpoRecipe | PrmRecipe, builder: RowBuilder[R], context: int | None = None
) -> TrainingData[R]:
    """Reads the files of a recipe and measures all their rows.

    Args:
        recipe: What to read, and how it is used.
        builder: Makes the rows.
        context: Tokens of the model's context; None if it has no limit.

    Raises:
        AtomThinkError: A file cannot be read, a format is unknown, or nothing can be used.
    """
    longest = min(filter(None, (recipe.max_length, context)), default=None)
    tables: list[Dataset] = []
    parts: list[tuple[int, int]] = []
    rejects: list[Reject] = []
    read = rejected_parts = 0
    for data in recipe.data:
        form = data.format or recipe.format
        builder.check_format(form)
        found = read_records(data.file, builder.record_type)
        read += found.read
        rejects += found.rejects
        first = sum(map(len, tables))
        prepared = RecordFile(found.folder, [builder.prepare(record) for record in found.records])
        tables.append(_measured(builder, prepared, form, longest, recipe.dataloader_num_workers))
        usable: list[tuple[int, int]] = []
        for at, (record, errors) in enumerate(zip(found.records, tables[-1], strict=True)):
            good = [part for part, error in enumerate(errors["part_errors"]) if error is None]
            bad = _rejects(f"{data.file.name}, id {record.id!r}", record, errors, partly=bool(good))
            usable += [(first + at, part) for part in good]
            rejects += bad
            rejected_parts += len(bad) if good else 0
        parts += repeated(usable, data.weight, random.Random(f"{recipe.seed} {data.file}"))
    if not parts:
        what = builder.record_type.__name__.lower()
        raise AtomThinkError(f"`data` has no {what} to train on: {read} read, all rejected{first_reason(rejects)}")
    return TrainingData(builder, concatenate_datasets(tables), parts_table(parts), rejects, read, rejected_parts)


def parts_table(parts: Sequence[tuple[int, int]]) -> Dataset:
    """Returns pairs of an example and one of its parts as the table `TrainingData.parts`."""
    examples, numbers = zip(*parts, strict=True)
    return Dataset.from_dict({"example": examples, "part": numbers})


def repeated(rows: Sequence[T], times: float, rng: random.Random) -> Iterator[T]:
    """Yields rows that many times; for the fraction that is left, a random sample of them."""
    whole = int(times)
    for _ in range(whole):
        yield from rows
    yield from rng.sample(rows, round((times - whole) * len(rows)))


def _measured(builder: RowBuilder[R], found: RecordFile[R], form: str, longest: int | None, workers: int) -> Dataset:
    """Returns records as examples, with why each of them, or each of its parts, cannot be used."""
    columns = {
        "record": [record.model_dump_json(exclude_none=True) for record in found.records],
        "folder": [str(found.folder)] * len(found.records),
        "format": [getattr(record, "format", None) or form for record in found.records],
    }
    # In memory and without a cache: a file's images may change, and the fingerprint would not show it.
    return Dataset.from_dict(columns, features=Features(_RECORD)).map(
        partial(_measure, builder, longest),
        with_rank=True,
        num_proc=min(workers, len(found.records)) or None,
        features=_MEASURED,
        keep_in_memory=True,
        load_from_cache_file=False,
        new_fingerprint="measured",  # the default one pickles the whole encoder
        desc="Measuring",
    )


def _measure(
    builder: RowBuilder[R], longest: int | None, example: Mapping[str, str], rank: int | None
) -> dict[str, Any]:
    """Returns why an example cannot be used, or why each of its parts cannot; None for what can."""
    if rank is not None:
        torch.set_num_threads(1)  # in a forked process OpenMP would wait for threads that do not exist
    with nullcontext() if builder.encoder is None else builder.encoder.measuring():
        try:
            found = [max(row.encoding.length for row in rows) for rows in _parts(builder, example, blank=True)]
        except AtomThinkError as error:
            return {"error": str(error), "part_errors": []}
    return {"error": None, "part_errors": [_too_long(length, longest) for length in found]}


def _too_long(length: int, longest: int | None) -> str | None:
    if longest is None or length <= longest:
        return None
    return f"{length} tokens, more than {longest}: raise `max_length`, or lower `max_pixels`"


def _parts(
    builder: RowBuilder[R], example: Mapping[str, str], only: int | None = None, blank: bool = False
) -> Iterator[list[TrainingRow]]:
    record = builder.record_type.model_validate_json(example["record"])
    question = builder.question(record, Path(example["folder"]), blank)
    return builder.parts(record, example["format"], question, only)


def _rejects(where: str, record: R, found: Mapping[str, Any], partly: bool) -> list[Reject]:
    """Returns the rejects of one record: its unusable parts if others are used, else the whole record."""
    errors = [(part, error) for part, error in enumerate(found["part_errors"], start=1) if error is not None]
    given = record.model_dump(exclude_none=True)
    if partly:
        return [Reject(f"{where}, step {part}", error, given) for part, error in errors]
    return [Reject(where, found["error"] or "; ".join(dict.fromkeys(error for _, error in errors)), given)]
