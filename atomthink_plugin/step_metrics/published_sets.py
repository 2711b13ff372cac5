"""Records of published sets of labelled steps: ProcessBench, VisualProcessBench and PRMBench."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, NamedTuple, Protocol, TypeVar

from annotated_types import Ge, MinLen
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from atomthink_plugin.step_metrics.judged_steps import StepLabels
from atomthink_plugin.step_metrics.prm_score import ORIGINAL
from atomthink_plugin.text_fields import MaybeText, Text

PublishedSet = Literal["processbench", "visualprocessbench", "prmbench"]

Steps = Annotated[tuple[Text, ...], MinLen(1)]


class StoredImage(BaseModel):
    """An image as parquet files hold it, or its name alone."""

    model_config = ConfigDict(frozen=True)

    content: bytes | None = Field(None, alias="bytes")
    path: str | None = None


@dataclass(frozen=True, slots=True)
class LabelledSolution:
    """A solution of a published set.

    Attributes:
        id: Unique in its set.
        question: The question's text.
        steps: The steps of the solution.
        truth: The labels of the steps.
        images: The question's images in reading order.
        answer: The right answer, empty if it is not known.
    """

    id: str
    question: str
    steps: tuple[str, ...]
    truth: StepLabels
    images: tuple[StoredImage, ...] = ()
    answer: str = ""


class _Identified(Protocol):
    @property
    def id(self) -> str: ...


S = TypeVar("S", bound=_Identified)


def add_new(known: dict[str, S], own: S, *shared: S) -> None:
    """Adds the solutions of a record to those of earlier records, by id.

    Args:
        known: The solutions so far. Changed in place.
        own: The record's own solution.
        *shared: Solutions that several records repeat: the first record's is kept.

    Raises:
        ValueError: There is a solution with the id of the record's own.
    """
    if own.id in known:
        raise ValueError(f"the id {own.id!r} occurred before")
    for solution in (own, *shared):
        known.setdefault(solution.id, solution)


class SetReader(NamedTuple):
    """How records of a set are read.

    Attributes:
        fields: The fields by which a record is recognised.
        read: Takes a record, its place (unique in the set) and the name of its split. Returns the record's own
            solution, followed by solutions that several records repeat. Raises ValueError if the record cannot be used.
    """

    fields: frozenset[str]
    read: Callable[[Mapping[str, Any], str, str], Sequence[LabelledSolution]]


class _Record(BaseModel):
    model_config = ConfigDict(coerce_numbers_to_str=True)


class _ProcessBench(_Record):
    id: Text
    problem: Text
    steps: Steps
    label: Annotated[int, Ge(-1)]
    final_answer_correct: bool | None = None


def _processbench(fields: Mapping[str, Any], where: str, split: str) -> list[LabelledSolution]:
    """https://huggingface.co/datasets/Qwen/ProcessBench: `label` is the first wrong step from 0, or -1."""
    found = _ProcessBench.model_validate(fields)
    labels = labels_up_to(None if found.label == -1 else found.label, len(found.steps))
    subset = found.id.rpartition("-")[0] or split
    truth = StepLabels(f"{subset}: {found.problem}", labels, subset, found.final_answer_correct)
    return [LabelledSolution(found.id, found.problem, found.steps, truth)]


class _PrmBench(_Record):
    idx: Text
    original_question: Text
    modified_question: Text
    original_process: Steps
    modified_process: Steps
    error_steps: tuple[int, ...]
    classification: Text


def _prmbench(fields: Mapping[str, Any], where: str, split: str) -> list[LabelledSolution]:
    """https://github.com/ssmisya/PRMBench: `error_steps` count from 1, all other steps are right.

    Every record of a problem repeats its original solution, with formulas spelled differently. It counts once, as in
    the benchmark's own evaluation (mr_eval/tasks/prmtest_classified/task.py), which takes it from one class.
    """
    found = _PrmBench.model_validate(fields)
    count = len(found.modified_process)
    beyond = [step for step in found.error_steps if not 1 <= step <= count]
    if beyond:
        raise ValueError(f"error_steps: {beyond}, and the {count} steps are numbered from 1")
    kind = found.classification
    problem = found.idx.removeprefix(f"{kind}_")

    def labelled(subset: str, question: str, steps: tuple[str, ...], wrong: Sequence[int]) -> LabelledSolution:
        labels = tuple(number not in wrong for number in range(1, len(steps) + 1))
        return LabelledSolution(f"{subset}_{problem}", question, steps, StepLabels(problem, labels, subset))

    return [
        labelled(kind, found.modified_question, found.modified_process, found.error_steps),
        labelled(ORIGINAL, found.original_question, found.original_process, ()),
    ]


class _Response(BaseModel):
    steps: Steps
    process_correctness: tuple[Literal[1, 0, -1], ...]


def _stored_images(given: Any) -> list[Any]:
    """Returns one image, several or none as a list of `StoredImage`; JSON files have names only."""
    images = [] if given is None else given if isinstance(given, list | tuple) else [given]
    return [{"path": image} if isinstance(image, str) else image for image in images]


class _VisualProcessBench(_Record):
    image: Annotated[tuple[StoredImage, ...], BeforeValidator(_stored_images)]
    question: Text
    answer: MaybeText = ""
    response: Annotated[
        _Response, BeforeValidator(lambda given: json.loads(given) if isinstance(given, str) else given)
    ]
    data_source: MaybeText = ""


def _visualprocessbench(fields: Mapping[str, Any], where: str, split: str) -> list[LabelledSolution]:
    """https://huggingface.co/datasets/OpenGVLab/VisualProcessBench: 1 is right, -1 wrong, 0 neutral: not labelled."""
    found = _VisualProcessBench.model_validate(fields)
    steps, given = found.response.steps, found.response.process_correctness
    if len(given) != len(steps):
        raise ValueError(f"{len(given)} labels for {len(steps)} steps")
    subset = found.data_source or split
    names = tuple(image.path or "bytes" for image in found.image)
    labels = tuple({1: True, -1: False, 0: None}[value] for value in given)
    truth = StepLabels(f"{subset}: {names} {found.question}", labels, subset)
    return [LabelledSolution(where, found.question, steps, truth, found.image, found.answer)]


def labels_up_to(first_error: int | None, steps: int) -> tuple[bool | None, ...]:
    """Returns the labels of a solution whose first wrong step is known; later steps have none.

    Raises:
        ValueError: There is no such step.
    """
    if first_error is None:
        return (True,) * steps
    if not 0 <= first_error < steps:
        raise ValueError(f"step {first_error} is labelled as wrong, and the {steps} steps are numbered from 0")
    return (*(True,) * first_error, False, *(None,) * (steps - first_error - 1))


PUBLISHED_SETS: Final[Mapping[PublishedSet, SetReader]] = {
    "processbench": SetReader(frozenset({"problem", "steps", "label"}), _processbench),
    "visualprocessbench": SetReader(frozenset({"image", "question", "response"}), _visualprocessbench),
    "prmbench": SetReader(frozenset({"original_process", "modified_process", "error_steps"}), _prmbench),
}
