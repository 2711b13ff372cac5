"""Labelled sets: chains with a label per step, from this package's files and from published benchmarks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from pydantic import BaseModel, ConfigDict

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.inference.image_input import Picture, image_faults
from atomthink_plugin.json_rows import Reject, describe_error, nothing_usable
from atomthink_plugin.runtime.solution_scores import GivenSolution
from atomthink_plugin.source_rows import SourceRow, open_source
from atomthink_plugin.step_metrics.judged_steps import StepLabels
from atomthink_plugin.step_metrics.published_sets import (
    PUBLISHED_SETS,
    LabelledSolution,
    SetReader,
    Steps,
    add_new,
    labels_up_to,
)
from atomthink_plugin.text_fields import MaybeText, Text
from atomthink_plugin.training.records import Chain

log = logging.getLogger(__name__)

RIGHT: Final = 0.5
"""The least label of a right step."""


@dataclass(frozen=True, slots=True)
class LabelledChain:
    """A chain with labels.

    Attributes:
        question: Identity of the question: chains of one question have the same.
        subset: The part of the set that it belongs to: a source, a task, a class of errors. Empty if there is none.
        pictures: The question's images in reading order.
        right: Whether the final answer is right; None if that is not known.
    """

    chain: Chain
    question: str
    subset: str = ""
    pictures: tuple[Picture, ...] = ()
    right: bool | None = None

    @property
    def id(self) -> str:
        """The chain's id."""
        return self.chain.id

    @property
    def truth(self) -> StepLabels:
        """What is known about its steps."""
        labels = tuple(None if label is None else label >= RIGHT for label in self.chain.labels or ())
        kinds = self.chain.wrong_kinds() if self.chain.error_kinds else ()
        return StepLabels(self.question, labels, self.subset, self.right, kinds)

    @property
    def given(self) -> GivenSolution:
        """What a scorer gets of it."""
        return GivenSolution(self.chain.id, self.chain.question, self.chain.steps, self.pictures)


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """A labelled set: its format, its number of records, the chains of the used ones, and the rejected ones."""

    format: str
    records: int
    chains: tuple[LabelledChain, ...]
    rejects: tuple[Reject, ...]


def read_set(source: str, format: str | None = None, limit: int | None = None) -> LabelledSet:
    """Reads a labelled set.

    Args:
        source: A file, a folder or a dataset of the hub, as for `open_source`. All its splits are read.
        format: Name of its format; None to detect it from the fields of the records.
        limit: Reads only the first records.

    Raises:
        AtomThinkError: It cannot be read, its format is unknown, or no record can be used.
    """
    rows = list(open_source(source, all_splits=True, limit=limit).rows)
    usable = [row for row in rows if isinstance(row, SourceRow)]
    rejects = [row for row in rows if isinstance(row, Reject)]
    known = (name for row in usable for name, reader in FORMATS.items() if reader.fields <= row.fields.keys())
    name = format or next(known, "")
    if not name:
        fields = ", ".join(sorted(usable[0].fields)) if usable else "none"
        raise AtomThinkError(
            f"{source}: the format cannot be detected from the fields of its records ({fields}). Choose it with "
            f"`--format {'|'.join(FORMATS)}`"
        )
    chains: dict[str, LabelledChain] = {}
    for row in usable:
        try:
            add_new(chains, *FORMATS[name].read(row))
        except ValueError as error:
            rejects.append(Reject(row.where, describe_error(error), row.fields))
    good: list[LabelledChain] = []
    faults = image_faults([list(zip(c.chain.images, c.pictures, strict=True)) for c in chains.values()])
    for item, fault in zip(chains.values(), faults, strict=True):
        if fault:
            rejects.append(Reject(f"id {item.chain.id!r}", fault, item.chain.model_dump(exclude_none=True)))
        else:
            good.append(item)
    if not good:
        raise nothing_usable(source, rejects)
    if rejects:
        log.warning("%s: %d of %d records are rejected", source, len(rejects), len(rows))
    return LabelledSet(name, len(rows), tuple(good), tuple(rejects))


# --- formats: each function returns the record's own chain, and chains that several records repeat ----------------


def _chains(row: SourceRow) -> list[LabelledChain]:
    """This package's labelled chains."""
    chain = Chain.model_validate(row.fields)
    if chain.labels is None:
        raise ValueError("labels: the chain has none")
    pictures = tuple(row.folder / image for image in chain.images)
    return [LabelledChain(chain, f"{chain.images} {chain.question}", "", pictures, chain.is_correct())]


class _Mistake(BaseModel):
    model_config = ConfigDict(coerce_numbers_to_str=True)

    input: Text
    steps: Steps
    mistake_index: int | None
    target: MaybeText = ""
    answer: str | None = None
    task: MaybeText = ""


def _bigbench_mistake(row: SourceRow) -> list[LabelledChain]:
    """https://github.com/WHGTyen/BIG-Bench-Mistake: `mistake_index` is the first wrong step from 0, or null."""
    found = _Mistake.model_validate(row.fields)
    labels = _probabilities(labels_up_to(found.mistake_index, len(found.steps)))
    chain = Chain(id=row.where, question=found.input, steps=found.steps, answer=found.target, labels=labels)
    known = found.answer is not None and found.target
    right = (found.answer or "").strip().casefold() == found.target.strip().casefold() if known else None
    subset = found.task or row.split
    return [LabelledChain(chain, f"{subset}: {found.input}", subset, right=right)]


def _published(reader: SetReader) -> FormatReader:
    """Returns the reader of a published set, whose solutions become chains."""

    def read(row: SourceRow) -> list[LabelledChain]:
        return [_as_chain(solution, row.folder) for solution in reader.read(row.fields, row.where, row.split)]

    return FormatReader(reader.fields, read)


def _as_chain(solution: LabelledSolution, folder: Path) -> LabelledChain:
    truth = solution.truth
    chain = Chain(
        id=solution.id,
        question=solution.question,
        images=tuple(image.path or "bytes" for image in solution.images),
        steps=solution.steps,
        answer=solution.answer,
        labels=_probabilities(truth.labels),
    )
    pictures = tuple(image.content or folder / (image.path or "bytes") for image in solution.images)
    return LabelledChain(chain, truth.question, truth.subset, pictures, truth.right)


def _probabilities(labels: Sequence[bool | None]) -> tuple[float | None, ...]:
    return tuple(None if label is None else float(label) for label in labels)


class FormatReader(NamedTuple):
    """A format: the fields by which a record of it is recognised, and the function that reads a record."""

    fields: frozenset[str]
    read: Callable[[SourceRow], Sequence[LabelledChain]]


FORMATS: Final[Mapping[str, FormatReader]] = {
    "chains": FormatReader(frozenset({"id", "question", "steps", "labels"}), _chains),
    **{name: _published(reader) for name, reader in PUBLISHED_SETS.items()},
    "bigbench_mistake": FormatReader(frozenset({"input", "steps", "mistake_index"}), _bigbench_mistake),
}
