"""Labelled sets: chains with a label per step, from this package's files and from published benchmarks."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, NamedTuple

from annotated_types import Ge, MinLen
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from atomthink_plugin.api import AtomThinkError, Question
from atomthink_plugin.inference.image_input import Picture, image_faults, read_image
from atomthink_plugin.json_rows import Reject, describe_error, nothing_usable
from atomthink_plugin.source_rows import SourceRow, open_source
from atomthink_plugin.training.records import Chain, MaybeText, Text, engine_question

log = logging.getLogger(__name__)

RIGHT: Final = 0.5
"""The least label of a right step."""

PRMBENCH_ORIGINAL: Final = "correct"
"""PRMBench's own name for the class of unmodified solutions."""


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
    def labels(self) -> tuple[bool | None, ...]:
        """Whether each step is right; None if that is not known."""
        return tuple(None if label is None else label >= RIGHT for label in self.chain.labels or ())

    @property
    def first_error(self) -> int | None:
        """Index of the first step that is labelled wrong."""
        return self.chain.first_error()

    @property
    def first_error_known(self) -> bool:
        """Whether every step before the first wrong one has a label; without a wrong one, every step."""
        return None not in self.labels[: self.first_error]

    def engine_question(self) -> Question:
        """Returns the question for the scorer, with its images."""
        return engine_question(self.chain.id, self.chain.question, [read_image(picture) for picture in self.pictures])

    def key(self) -> str:
        """Returns a digest of all that a PRM sees: images, question and steps."""
        digest = hashlib.blake2b(digest_size=12)
        contents = (p if isinstance(p, bytes) else p.read_bytes() for p in self.pictures)
        texts = (text.encode("utf-8", "surrogatepass") for text in (self.chain.question, *self.chain.steps))
        for part in (*contents, b"", *texts):
            digest.update(len(part).to_bytes(8, "big") + part)
        return digest.hexdigest()


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
            own, *shared = FORMATS[name].read(row)
            if own.chain.id in chains:
                raise ValueError(f"the id {own.chain.id!r} occurred before")
        except ValueError as error:
            rejects.append(Reject(row.where, describe_error(error), row.fields))
        else:
            chains |= {item.chain.id: item for item in (own, *shared) if item.chain.id not in chains}
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

Steps = Annotated[tuple[Text, ...], MinLen(1)]


class _Record(BaseModel):
    model_config = ConfigDict(coerce_numbers_to_str=True)


def _chains(row: SourceRow) -> list[LabelledChain]:
    """This package's labelled chains."""
    chain = Chain.model_validate(row.fields)
    if chain.labels is None:
        raise ValueError("labels: the chain has none")
    pictures = tuple(row.folder / image for image in chain.images)
    return [LabelledChain(chain, f"{chain.images} {chain.question}", "", pictures, chain.is_correct())]


class _ProcessBench(_Record):
    id: Text
    problem: Text
    steps: Steps
    label: Annotated[int, Ge(-1)]
    final_answer_correct: bool | None = None


def _processbench(row: SourceRow) -> list[LabelledChain]:
    """https://huggingface.co/datasets/Qwen/ProcessBench: `label` is the first wrong step from 0, or -1."""
    found = _ProcessBench.model_validate(row.fields)
    labels = _up_to(None if found.label == -1 else found.label, len(found.steps))
    chain = Chain(id=found.id, question=found.problem, steps=found.steps, labels=labels)
    subset = found.id.rpartition("-")[0] or row.split
    return [LabelledChain(chain, f"{subset}: {found.problem}", subset, right=found.final_answer_correct)]


class _Mistake(_Record):
    input: Text
    steps: Steps
    mistake_index: int | None
    target: MaybeText = ""
    answer: str | None = None
    task: MaybeText = ""


def _bigbench_mistake(row: SourceRow) -> list[LabelledChain]:
    """https://github.com/WHGTyen/BIG-Bench-Mistake: `mistake_index` is the first wrong step from 0, or null."""
    found = _Mistake.model_validate(row.fields)
    labels = _up_to(found.mistake_index, len(found.steps))
    chain = Chain(id=row.where, question=found.input, steps=found.steps, answer=found.target, labels=labels)
    known = found.answer is not None and found.target
    right = (found.answer or "").strip().casefold() == found.target.strip().casefold() if known else None
    subset = found.task or row.split
    return [LabelledChain(chain, f"{subset}: {found.input}", subset, right=right)]


class _PrmBench(_Record):
    idx: Text
    original_question: Text
    modified_question: Text
    original_process: Steps
    modified_process: Steps
    error_steps: tuple[int, ...]
    classification: Text


def _prmbench(row: SourceRow) -> list[LabelledChain]:
    """https://github.com/ssmisya/PRMBench: `error_steps` count from 1, all other steps are right.

    Every record of a problem repeats its original solution, with formulas spelled differently. It counts once, as in
    the benchmark's own evaluation (mr_eval/tasks/prmtest_classified/task.py), which takes it from one class.
    """
    found = _PrmBench.model_validate(row.fields)
    count = len(found.modified_process)
    beyond = [step for step in found.error_steps if not 1 <= step <= count]
    if beyond:
        raise ValueError(f"error_steps: {beyond}, and the {count} steps are numbered from 1")
    kind = found.classification
    problem = found.idx.removeprefix(f"{kind}_")

    def labelled(subset: str, question: str, steps: Sequence[str], wrong: Sequence[int]) -> LabelledChain:
        labels = tuple(0.0 if number in wrong else 1.0 for number in range(1, len(steps) + 1))
        chain = Chain(id=f"{subset}_{problem}", question=question, steps=tuple(steps), labels=labels)
        return LabelledChain(chain, problem, subset)

    return [
        labelled(kind, found.modified_question, found.modified_process, found.error_steps),
        labelled(PRMBENCH_ORIGINAL, found.original_question, found.original_process, ()),
    ]


class _Response(BaseModel):
    steps: Steps
    process_correctness: tuple[Literal[1, 0, -1], ...]


class _StoredImage(BaseModel):
    """An image as parquet files hold it."""

    content: bytes | None = Field(None, alias="bytes")
    path: str | None = None


def _stored_images(given: Any) -> list[Any]:
    """Returns one image, several or none as a list of `_StoredImage`; JSON files have names only."""
    images = [] if given is None else given if isinstance(given, list | tuple) else [given]
    return [{"path": image} if isinstance(image, str) else image for image in images]


class _VisualProcessBench(_Record):
    image: Annotated[tuple[_StoredImage, ...], BeforeValidator(_stored_images)]
    question: Text
    answer: MaybeText = ""
    response: Annotated[
        _Response, BeforeValidator(lambda given: json.loads(given) if isinstance(given, str) else given)
    ]
    data_source: MaybeText = ""


def _visualprocessbench(row: SourceRow) -> list[LabelledChain]:
    """https://huggingface.co/datasets/OpenGVLab/VisualProcessBench: 1 is right, -1 wrong, 0 neutral: not labelled."""
    found = _VisualProcessBench.model_validate(row.fields)
    chain = Chain(
        id=row.where,
        question=found.question,
        images=tuple(image.path or "bytes" for image in found.image),
        steps=found.response.steps,
        answer=found.answer,
        labels=tuple({1: 1.0, -1: 0.0, 0: None}[value] for value in found.response.process_correctness),
    )
    subset = found.data_source or row.split
    pictures = tuple(image.content or row.folder / (image.path or "bytes") for image in found.image)
    return [LabelledChain(chain, f"{subset}: {chain.images} {found.question}", subset, pictures)]


def _up_to(first_error: int | None, steps: int) -> tuple[float | None, ...]:
    """Returns the labels of a chain whose first wrong step is known; later steps have none."""
    if first_error is None:
        return (1.0,) * steps
    if not 0 <= first_error < steps:
        raise ValueError(f"step {first_error} is labelled as wrong, and the {steps} steps are numbered from 0")
    return (*(1.0,) * first_error, 0.0, *(None,) * (steps - first_error - 1))


class FormatReader(NamedTuple):
    """A format: the fields by which a record of it is recognised, and the function that reads a record."""

    fields: frozenset[str]
    read: Callable[[SourceRow], Sequence[LabelledChain]]


FORMATS: Final[Mapping[str, FormatReader]] = {
    "chains": FormatReader(frozenset({"id", "question", "steps", "labels"}), _chains),
    "processbench": FormatReader(frozenset({"problem", "steps", "label"}), _processbench),
    "visualprocessbench": FormatReader(frozenset({"image", "question", "response"}), _visualprocessbench),
    "prmbench": FormatReader(frozenset({"original_process", "modified_process", "error_steps"}), _prmbench),
    "bigbench_mistake": FormatReader(frozenset({"input", "steps", "mistake_index"}), _bigbench_mistake),
}
