"""The functions of the MATH-Vision tasks: prompts, images, groups of questions, and scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from PIL import Image

from atomthink_plugin.tasks.benchmarks.benchmark import Benchmark, Document
from atomthink_plugin.tasks.benchmarks.metrics import sample_line


def _groups(doc: Document) -> dict[str, tuple[str, ...]]:
    return {"level": (str(doc["level"]),), "subject": (doc["subject"],)}


_FIELDS: Final = ("id", "question", "options", "image", "answer", "level", "subject")

MATHVISION: Final = Benchmark(
    name="mathvision",
    dataset="MathLLMs/MathVision",
    image="decoded_image",
    fields=_FIELDS,
    groups=_groups,
    judge_question=lambda doc: _question(doc),
)


def doc_to_visual(doc: Document) -> list[Image.Image]:
    """Returns the question's image."""
    return MATHVISION.images(doc)


def doc_to_text(doc: Document, lmms_eval_specific_kwargs: Mapping[str, Any]) -> str:
    """Returns the prompt of lmms-eval's own task."""
    MATHVISION.require_columns(doc)
    prompt = 'Please solve the problem step by step and put your answer in one "\\boxed{}".' + _question(doc)
    return f"{prompt}\n{lmms_eval_specific_kwargs['mc_prompt']}" if doc["options"] else prompt


def _question(doc: Document) -> str:
    options = "\n".join(f"{chr(ord('A') + i)}. {option}" for i, option in enumerate(doc["options"]))
    return f"{doc['question']}\nChoices: {options}" if options else str(doc["question"])


def process_results(doc: Document, results: Sequence[str]) -> dict[str, Any]:
    """Scores the first reply; see `metrics.sample_line`."""
    return sample_line(MATHVISION, doc, results[0])
