"""The records that the stages of `training/` exchange: questions, chains and pairs, one JSON object per line.

Each stage writes what the next one reads. Images are files next to the records, named relative to the records' folder.
A record that cannot be used becomes a `Reject` with a reason, so that the counts of a file always add up.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate, islice
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from annotated_types import Ge, Le, MinLen
from PIL.Image import Image
from pydantic import BaseModel, ConfigDict, model_validator

from atomthink_plugin import api
from atomthink_plugin.answers import equivalent, final_answer, is_right
from atomthink_plugin.api import AtomThinkError, Format, Message, Question, QuestionError, Step
from atomthink_plugin.inference.image_input import BROKEN, image_faults
from atomthink_plugin.json_rows import Reject, describe_error, first_reason, json_rows, nothing_usable
from atomthink_plugin.report.output_files import seen_from
from atomthink_plugin.text_fields import MaybeText, Text
from atomthink_plugin.training.images import shared_image

log = logging.getLogger(__name__)

Label = Annotated[float, Ge(0), Le(1)]
ErrorKind = Literal["perception", "reasoning"]
"""Whether a wrong step misreads the image, or draws a wrong conclusion from what was read."""


class QuestionRecord(BaseModel):
    """A question. All records have its fields; other fields of a file are ignored.

    The id is unique in its file. The text includes the options. Images are relative to the folder of the file.
    """

    model_config = ConfigDict(frozen=True, coerce_numbers_to_str=True)

    id: Text
    question: Text
    images: tuple[str, ...] = ()


R = TypeVar("R", bound=QuestionRecord)


class AnsweredQuestion(QuestionRecord):
    """A question with its right answer, a reference solution, the texts of its options and its data set, if known."""

    answer: MaybeText = ""
    solution: MaybeText = ""
    options: tuple[str, ...] = ()
    source: str = ""

    def is_right(self, answer: str) -> bool:
        """Returns whether an answer is equivalent to the right one, or to the text of the right option."""
        return is_right(answer, self.answer, self.options)


class Chain(QuestionRecord):
    """A question, the steps of one solution and, where known, which of the steps are right.

    Attributes:
        steps: In order; the last one states the answer, unless the chain is only the beginning of a solution.
        answer: The right answer, empty if it is not known.
        labels: One per step: the probability that it is right, given the steps before it; None where unknown.
        corrections: One per step: a right step in the place of a wrong one; None where there is none.
        error_kinds: One per step: the kind of error in a wrong step; None where there is none, or it is not known.
        correct: Whether the answer that the chain states is right. None to compare it with `answer`.
        format: The prompt format for training on this chain; None for the one of the recipe.
    """

    steps: Annotated[tuple[Text, ...], MinLen(1)]
    answer: MaybeText = ""
    labels: tuple[Label | None, ...] | None = None
    corrections: tuple[Text | None, ...] | None = None
    error_kinds: tuple[ErrorKind | None, ...] | None = None
    correct: bool | None = None
    format: str | None = None

    @model_validator(mode="after")
    def _one_per_step(self) -> Self:
        for name in ("labels", "corrections", "error_kinds"):
            given = getattr(self, name)
            if given is not None and len(given) != len(self.steps):
                raise ValueError(f"{len(given)} {name} for {len(self.steps)} steps")
        return self

    def first_error(self) -> int | None:
        """Returns the index of the first step whose label is below a half, None if there is none.

        Raises:
            ValueError: The chain has no labels.
        """
        if self.labels is None:
            raise ValueError(f"chain {self.id!r} has no labels")
        return next((i for i, label in enumerate(self.labels) if label is not None and label < 0.5), None)

    def with_hard_labels(self, threshold: float = 0.0) -> Self:
        """Returns the chain with the label 1 where the label is above the threshold, else 0.

        For shares of right rollouts, 0 means that a step is right if any rollout after it is.

        Raises:
            ValueError: The chain has no labels.
        """
        if self.labels is None:
            raise ValueError(f"chain {self.id!r} has no labels")
        labels = tuple(None if label is None else float(label > threshold) for label in self.labels)
        return self.model_copy(update={"labels": labels})

    def is_correct(self) -> bool | None:
        """Returns whether the stated answer is right; None if there is none, or the right one is not known.

        The comparison of two formulas may take seconds.
        """
        if self.correct is not None or not self.answer:
            return self.correct
        stated = final_answer(self.steps[-1])
        return None if stated is None else equivalent(stated, self.answer)

    def wrong_kinds(self) -> tuple[ErrorKind | None, ...]:
        """Returns the kind of error of each step that is labelled wrong; None for all other steps."""
        kinds, labels = self.error_kinds or (None,) * len(self.steps), self.labels or (None,) * len(self.steps)
        return tuple(
            kind if label is not None and label < 0.5 else None for kind, label in zip(kinds, labels, strict=True)
        )

    def paths(self, question: Question, form: Format) -> list[api.Path]:
        """Returns the paths that end with each step, from the first step to the last."""
        root = api.Path(question)
        return list(accumulate(self.steps, lambda at, step: at.extend(Step(step), form.answer(step)), initial=root))[1:]


class Pair(QuestionRecord):
    """A question, the steps so far, and a better and a worse continuation of one step or more.

    The format is the prompt format for training on this pair; None for the one of the recipe.
    """

    history: tuple[Text, ...] = ()
    chosen: Annotated[tuple[Text, ...], MinLen(1)]
    rejected: Annotated[tuple[Text, ...], MinLen(1)]
    format: str | None = None

    @model_validator(mode="after")
    def _two_sides(self) -> Self:
        if self.chosen == self.rejected:
            raise ValueError("chosen and rejected are the same")
        return self


def relocated(record: R, folder: Path, out: Path) -> R:
    """Returns a record whose images, relative to `folder`, are named relative to the folder of the file `out`."""
    return record.model_copy(update={"images": seen_from(out, folder, record.images)})


def engine_question(identity: str, text: str, shown: Sequence[Image]) -> Question:
    """Returns a question for the engine: images first."""
    return Question(identity, (Message("user", (*shown, text)),))


def read_images(record: QuestionRecord, folder: Path) -> list[Image]:
    """Returns the images of a record.

    Raises:
        QuestionError: An image cannot be read.
    """
    try:
        return [shared_image(folder / image) for image in record.images]
    except BROKEN as error:
        raise QuestionError(f"question {record.id!r}: {type(error).__name__}: {error}") from None


@dataclass(frozen=True, slots=True)
class RecordFile(Generic[R]):
    """The records of a file, usable or rejected, and the folder of their images. Also questions for a `Runner`."""

    folder: Path
    records: Sequence[R]
    rejects: Sequence[Reject] = ()

    @property
    def read(self) -> int:
        """Number of all records, rejects included."""
        return len(self.records) + len(self.rejects)

    def __len__(self) -> int:
        """Returns the number of usable records."""
        return len(self.records)

    def __getitem__(self, index: int, /) -> Question:
        """Returns the question of a usable record, see `question`."""
        return self.question(self.records[index])

    def question(self, record: QuestionRecord) -> Question:
        """Returns a record's question with its images; raises QuestionError if one cannot be read."""
        return engine_question(record.id, record.question, read_images(record, self.folder))


def read_records(
    file: Path,
    kind: type[R],
    *,
    limit: int | None = None,
    required: Sequence[str] = (),
    check_images: bool = True,
    strict: bool = False,
) -> RecordFile[R]:
    """Reads a JSONL file, or a JSON file with one list, as records of a class.

    Args:
        file: The file.
        kind: The class.
        limit: Reads only the first records.
        required: Fields that must not be empty although the class allows it, such as `answer`.
        check_images: Whether records whose images cannot be decoded are rejects.
        strict: Raises an error if there is any reject.

    Raises:
        AtomThinkError: The file cannot be read, or has no usable record.
    """
    found: dict[str, R] = {}
    rejects: list[Reject] = []
    for where, row in islice(json_rows(file), limit):
        if isinstance(row, Reject):
            rejects.append(row)
            continue
        try:
            record = kind.model_validate(row)
            if empty := [name for name in required if not getattr(record, name)]:
                raise ValueError(f"{', '.join(empty)}: missing or empty")
            if record.id in found:
                raise ValueError(f"the id {record.id!r} occurred before")
        except ValueError as error:
            rejects.append(Reject(where, describe_error(error), row))
        else:
            found[record.id] = record
    if check_images:
        images = [[(name, file.parent / name) for name in record.images] for record in found.values()]
        for name, fault in zip(list(found), image_faults(images), strict=True):
            if fault:
                where = f"{file.name}, id {name!r}"
                rejects.append(Reject(where, fault, found.pop(name).model_dump(exclude_none=True)))
    if not found:
        raise nothing_usable(file, rejects)
    if strict and rejects:
        raise AtomThinkError(f"{file}: {len(rejects)} of its records cannot be used{first_reason(rejects)}")
    if rejects:
        log.warning("%s: %d of %d records are rejected", file, len(rejects), len(found) + len(rejects))
    return RecordFile(file.parent, list(found.values()), rejects)


def count_reasons(rejects: Sequence[Reject]) -> dict[str, int]:
    """Returns the number of rejects for each reason, the most frequent first."""
    return dict(Counter(reject.reason for reject in rejects).most_common())


def write_records(file: Path, records: Iterable[BaseModel | Mapping[str, Any]]) -> int:
    """Writes one JSON object per line and returns the number of lines. Fields of models that are None are left out.

    Raises:
        AtomThinkError: The file cannot be written.
    """
    count = 0
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # JSON can hold lone surrogates and UTF-8 cannot: one of them must not end a run that is paid for.
        with file.open("w", encoding="utf-8", errors="replace") as out:
            for record in records:
                row = record.model_dump(exclude_none=True) if isinstance(record, BaseModel) else record
                out.write(json.dumps(row, ensure_ascii=False, default=_json_value) + "\n")
                count += 1
    except OSError as error:
        raise AtomThinkError(f"{file} cannot be written: {error.strerror}") from None
    return count


def write_rejects(file: Path, rejects: Iterable[Reject]) -> int:
    """Writes rejects with their reasons and returns their number; see `write_records`."""
    return write_records(file, (asdict(reject) for reject in rejects))


def _json_value(value: Any) -> Any:
    return f"{len(value)} bytes" if isinstance(value, bytes) else str(value)


def sibling_file(out: Path, ending: str) -> Path:
    """Returns the file in the folder of `out` with the same name and another ending."""
    return out.with_name(f"{out.stem}.{ending}")
