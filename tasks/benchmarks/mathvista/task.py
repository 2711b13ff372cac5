"""The functions of the MathVista tasks: prompts, images, groups of questions, and scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from PIL import Image

from atomthink_plugin.tasks.benchmarks.benchmark import Benchmark, Document
from atomthink_plugin.tasks.benchmarks.mathvista.prompts import prompt
from atomthink_plugin.tasks.benchmarks.metrics import sample_line

if TYPE_CHECKING:
    from datasets import Dataset

GENERAL: Final = "general-vqa"
"""MathVista's category of questions about everyday images. The other category is `math-targeted-vqa`."""


def _groups(doc: Document) -> dict[str, tuple[str, ...]]:
    metadata = doc["metadata"]
    return {
        "category": (metadata["category"],),
        "task": (metadata["task"],),
        "skill": tuple(metadata["skills"]),
        "answer_type": (doc["answer_type"],),
    }


_FIELDS: Final = (
    "pid", "question", "image", "choices", "unit", "precision", "answer", "question_type", "answer_type", "metadata",
)  # fmt: skip

MATHVISTA: Final = Benchmark(
    name="mathvista",
    dataset="AI4Math/MathVista",
    image="decoded_image",
    fields=_FIELDS,
    groups=_groups,
    judge_question=lambda doc: prompt(doc, "step-by-step"),
)


def doc_to_visual(doc: Document) -> list[Image.Image]:
    """Returns the question's image."""
    return MATHVISTA.images(doc)


def doc_to_text(doc: Document, lmms_eval_specific_kwargs: Mapping[str, Any]) -> str:
    """Returns the prompt that the task's `shot_type` names."""
    MATHVISTA.require_columns(doc)
    return prompt(doc, lmms_eval_specific_kwargs["shot_type"])


def process_results(doc: Document, results: Sequence[str]) -> dict[str, Any]:
    """Scores the first reply; see `metrics.sample_line`."""
    return sample_line(MATHVISTA, doc, results[0])


def general(dataset: Dataset) -> Dataset:
    """Keeps the questions about everyday images. In the published protocol they are answered directly."""
    return dataset.select([i for i, about in enumerate(dataset["metadata"]) if about["category"] == GENERAL])


def mathematical(dataset: Dataset) -> Dataset:
    """Keeps the other questions."""
    return dataset.select([i for i, about in enumerate(dataset["metadata"]) if about["category"] != GENERAL])
