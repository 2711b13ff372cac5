"""Chains of steps as files hold them: one JSON object per line, images beside it; what cannot be used is set aside.

Every command of `training/` reads and writes this one format, so that each stage's output is the next one's input.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, islice
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from annotated_types import Ge, Le, MinLen
from PIL.Image import Image
from pydantic import BaseModel, BeforeValidator, ConfigDict, StringConstraints, ValidationError, model_validator

from atomthink_plugin import api
from atomthink_plugin.api import AtomThinkError, Format, Message, Question, QuestionError, Step
from atomthink_plugin.report.output_files import seen_from
from atomthink_plugin.training.images import BROKEN, image_faults, shared_image
from atomthink_plugin.training.jsonl import NoJson, entries

log = logging.getLogger(__name__)

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
MaybeText = Annotated[
    str, StringConstraints(strip_whitespace=True), BeforeValidator(lambda given: "" if given is None else given)
]
"""Text that nobody may know: then it is empty, or null, which is read as empty."""
Label = Annotated[float, Ge(0), Le(1)]


class QuestionRecord(BaseModel):
    """What records of all kinds begin with: a question. Fields that are not named are left alone.

    Attributes:
        id: Unique in its file.
        question: As it is asked, options included.
        images: Files, relative to the records' own.
    """

    model_config = ConfigDict(frozen=True, coerce_numbers_to_str=True)

    id: Text
    question: Text
    images: tuple[str, ...] = ()


R = TypeVar("R", bound=QuestionRecord)


class Chain(QuestionRecord):
    """A question, the steps of one solution and, where known, which of them are right.

    Attributes:
        steps: In order; the last states the answer, unless the chain is a beginning only.
        answer: The right answer, empty if nobody knows it.
        labels: One per step: the probability that it is right, given those before it; None where it is not known.
        corrections: One per step: what would have been right in the place of a wrong one; None where nobody knows.
        format: The prompt format this chain is to be learned in, for files that mix several; None for the command's.
    """

    steps: Annotated[tuple[Text, ...], MinLen(1)]
    answer: MaybeText = ""
    labels: tuple[Label | None, ...] | None = None
    corrections: tuple[Text | None, ...] | None = None
    format: str | None = None

    @model_validator(mode="after")
    def _one_per_step(self) -> Self:
        for name, given in (("labels", self.labels), ("corrections", self.corrections)):
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


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that cannot be used.

    Attributes:
        where: File and line.
        reason: What is wrong with it.
        record: The record as it came.
    """

    where: str
    reason: str
    record: Any


@dataclass(frozen=True, slots=True)
class Chains:
    """What a file holds: chains and rejects together are all its records.

    Attributes:
        folder: What the chains' images are relative to.
        chains: The usable ones.
        rejects: The others.
    """

    folder: Path
    chains: Sequence[Chain]
    rejects: Sequence[Reject] = field(default=())

    def question(self, chain: Chain) -> Question:
        """Returns the chain's question as the engine asks it, images read."""
        return engine_question(chain.id, chain.question, [shared_image(self.folder / image) for image in chain.images])

    def paths(self, chain: Chain, form: Format) -> list[api.Path]:
        """Returns the chain's nodes, from its first step to its last; one that concludes is final."""
        root = api.Path(self.question(chain))
        nodes = accumulate(chain.steps, lambda at, step: at.extend(Step(step), form.answer(step)), initial=root)
        return list(nodes)[1:]


@dataclass(frozen=True, slots=True)
class QuestionList:
    """Records as questions to a runner, each built when it is its turn.

    Attributes:
        records: Chains, or anything that asks.
        folder: What their images are relative to.
    """

    records: Sequence[QuestionRecord]
    folder: Path

    def __len__(self) -> int:
        """Returns how many there are."""
        return len(self.records)

    def __getitem__(self, index: int, /) -> Question:
        """Builds one; raises QuestionError if an image cannot be read."""
        record = self.records[index]
        return engine_question(record.id, record.question, read_images(record, self.folder))


def engine_question(identity: str, text: str, shown: Sequence[Image]) -> Question:
    """Returns a question as the engine asks it: images first."""
    return Question(identity, (Message("user", (*shown, text)),))


def read_images(record: QuestionRecord, folder: Path) -> list[Image]:
    """Returns a record's images.

    Raises:
        QuestionError: One cannot be read.
    """
    try:
        return [shared_image(folder / image) for image in record.images]
    except BROKEN as error:
        raise QuestionError(f"question {record.id!r}: {type(error).__name__}: {error}") from None


def read_chains(file: Path, limit: int | None = None) -> Chains:
    """Returns the chains of a JSONL file; records and images that cannot be read are among its rejects.

    Args:
        file: The file.
        limit: Only so many records, from the first.

    Raises:
        AtomThinkError: There is no such file, or nothing in it can be used.
    """
    chains, rejects = with_readable_images(file, *read_records(file, Chain, limit))
    if not chains:
        raise nothing_usable(file, "chain", rejects)
    if rejects:
        log.warning("%s: %d of %d chains are rejected", file, len(rejects), len(chains) + len(rejects))
    return Chains(file.parent, chains, rejects)


def read_records(file: Path, kind: type[R], limit: int | None = None) -> tuple[list[R], list[Reject]]:
    """Returns the records of a file of JSON, and those that are none, or whose id occurred before.

    Args:
        file: The file.
        kind: What its records are.
        limit: Only so many, from the first.

    Raises:
        AtomThinkError: The file cannot be read.
    """
    found: dict[str, R] = {}
    rejects: list[Reject] = []
    for where, record in islice(entries(file), limit):
        if isinstance(record, NoJson):
            rejects.append(Reject(where, record.fault, record.text))
            continue
        try:
            made = kind.model_validate(record)
        except ValidationError as error:
            rejects.append(Reject(where, describe_errors(error), record))
        else:
            if made.id in found:
                rejects.append(Reject(where, f"the id {made.id!r} occurred before", record))
            else:
                found[made.id] = made
    return list(found.values()), rejects


def with_readable_images(file: Path, records: Sequence[R], rejects: Sequence[Reject]) -> tuple[list[R], list[Reject]]:
    """Returns the records of a file whose images can be decoded; the others join the rejects."""
    reasons = image_faults(file.parent / image for record in records for image in record.images)
    good: list[R] = []
    bad: list[Reject] = []
    for record in records:
        found = ((name, reasons.get(file.parent / name)) for name in record.images)
        broken = [f"image {name}: {reason}" for name, reason in found if reason]
        if broken:
            where = f"{file.name}, id {record.id!r}"
            bad.append(Reject(where, "; ".join(broken), record.model_dump(exclude_none=True)))
        else:
            good.append(record)
    return good, [*rejects, *bad]


def first_reason(rejects: Sequence[Reject]) -> str:
    """Returns what was wrong with the first reject, for a message that ends with it; empty if there is none."""
    return f"; the first: {rejects[0].where}: {rejects[0].reason}" if rejects else ""


def nothing_usable(source: object, what: str, rejects: Sequence[Reject]) -> AtomThinkError:
    """Returns the error for a source of which everything is set aside."""
    return AtomThinkError(f"{source} has no {what} that can be used ({len(rejects)} rejected{first_reason(rejects)})")


def count_reasons(rejects: Sequence[Reject]) -> dict[str, int]:
    """Returns how many were set aside for which reason, the commonest first."""
    return dict(Counter(reject.reason for reject in rejects).most_common())


def relocated(record: R, folder: Path, out: Path) -> R:
    """Returns a record whose images, relative to `folder`, are named as the file `out` has to name them."""
    return record.model_copy(update={"images": seen_from(out, folder, record.images)})


def write_chains(file: Path, chains: Iterable[Chain]) -> int:
    """Writes chains, one per line, and returns how many."""
    return write_lines(file, (chain.model_dump(exclude_none=True) for chain in chains))


def write_rejects(file: Path, rejects: Iterable[Reject]) -> int:
    """Writes what was set aside, each with its reason, and returns how many."""
    return write_lines(file, ({"where": r.where, "reason": r.reason, "record": r.record} for r in rejects))


def write_lines(file: Path, records: Iterable[dict[str, Any]]) -> int:
    """Writes JSON objects, one per line, and returns how many.

    Raises:
        AtomThinkError: The file cannot be written.
    """
    count = 0
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # Half a character of two, which JSON can escape and UTF-8 cannot hold, must not end a run that is paid for.
        with file.open("w", encoding="utf-8", errors="replace") as out:
            for record in records:
                out.write(json.dumps(record, ensure_ascii=False) + "\n")
                count += 1
    except OSError as error:
        raise AtomThinkError(f"{file} cannot be written: {error.strerror}") from None
    return count


def sibling_file(out: Path, ending: str) -> Path:
    """Returns the file that lies beside an output, with another ending."""
    return out.with_name(f"{out.stem}.{ending}")


def describe_errors(error: ValidationError) -> str:
    """Returns what a record lacks, in one line."""
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'record'}: {e['msg']}" for e in error.errors())
