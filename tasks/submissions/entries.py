"""The entries of the official files, checked by pydantic before they are written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from atomthink_plugin.report.run_samples import Sample
from atomthink_plugin.tasks.benchmarks.benchmark import BenchmarkName, reference_answer

EntryId = Annotated[str, Field(pattern=r"^[1-9][0-9]*$")]


class _SubmissionEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class MathVistaEntry(_SubmissionEntry):
    """The input of MathVista's `calculate_score.py`. The test split has no `answer` and no `true_false`."""

    question: str
    image: str
    choices: list[str] | None
    unit: str | None
    precision: int | None
    answer: str | None = None
    question_type: Literal["multi_choice", "free_form"]
    answer_type: Literal["text", "integer", "float", "list"]
    pid: EntryId
    metadata: dict[str, Any]
    response: str
    extraction: str | None
    prediction: str | None
    true_false: bool | None = None


class MathVerseEntry(_SubmissionEntry):
    """The input of MathVerse's `extract_answer_s1.py`."""

    sample_index: EntryId
    problem_index: EntryId
    problem_version: Literal[
        "Text Dominant", "Text Lite", "Text Only", "Vision Intensive", "Vision Dominant", "Vision Only"
    ]
    question: str
    image: str
    answer: str
    question_type: Literal["multi-choice", "free-form"]
    metadata: dict[str, Any]
    query_wo: str
    query_cot: str
    model_answer: str


class MathVisionEntry(_SubmissionEntry):
    """The input and output of MATH-Vision's evaluation."""

    id: EntryId
    model: str
    response: str
    model_answer: str
    correct: bool


IMAGES: Final = {
    "Text Dominant": "images_version_1-4",
    "Text Lite": "images_version_1-4",
    "Vision Intensive": "images_version_1-4",
    "Vision Dominant": "images_version_5",
    "Vision Only": "images_version_6",
}
"""MathVerse's image folder of each version. The data set on the hub has no file names."""


def mathvista(sample: Sample, model: str) -> dict[str, Any]:
    """Returns MathVista's entry of a question."""
    question = {**sample.fields["question"]}
    question["choices"] = question["choices"] or None
    verdict = {"true_false": sample.fields["correct"]}
    if reference_answer(question) is None:
        del question["answer"]
        verdict = {}
    answers = {"extraction": sample.fields["extracted"], "prediction": sample.fields["normalized"]}
    entry = MathVistaEntry(**question, response=sample.reply, **answers, **verdict)
    return entry.model_dump(exclude_unset=True)


def mathverse(sample: Sample, model: str) -> dict[str, Any]:
    """Returns MathVerse's entry of a question."""
    question = sample.fields["question"]
    folder = IMAGES.get(question["problem_version"])
    image = f"{folder}/image_{question['problem_index']}.png" if folder else ""
    return MathVerseEntry(**question, image=image, model_answer=sample.reply).model_dump()


def mathvision(sample: Sample, model: str) -> dict[str, Any]:
    """Returns MATH-Vision's entry of a question."""
    return MathVisionEntry(
        id=sample.fields["question"]["id"],
        model=model,
        response=sample.reply,
        model_answer=sample.fields["normalized"] or "",
        correct=sample.fields["correct"],
    ).model_dump()


ENTRIES: Final[Mapping[BenchmarkName, Callable[[Sample, str], dict[str, Any]]]] = {
    "mathvista": mathvista,
    "mathverse": mathverse,
    "mathvision": mathvision,
}
