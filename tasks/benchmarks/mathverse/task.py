"""The functions of the MathVerse tasks: prompts, images, groups of questions, and scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from PIL import Image

from atomthink_plugin.tasks.benchmarks.benchmark import Benchmark, Document
from atomthink_plugin.tasks.benchmarks.metrics import sample_line


def _groups(doc: Document) -> dict[str, tuple[str, ...]]:
    metadata = doc["metadata"]
    return {
        "version": (doc["problem_version"],),
        "subject": (metadata["subject"],),
        "subfield": (metadata["subfield"],),
    }


_FIELDS: Final = (
    "sample_index", "problem_index", "problem_version", "question", "answer", "question_type", "metadata", "query_wo",
    "query_cot",
)  # fmt: skip

MATHVERSE: Final = Benchmark(
    name="mathverse",
    dataset="CaraJ/MathVerse-lmmseval",
    image="image",
    fields=_FIELDS,
    groups=_groups,
    judge_question=lambda doc: str(doc["question_for_eval"]),
)


def doc_to_visual(doc: Document) -> list[Image.Image]:
    """Returns the question's image; the text-only version has none."""
    return MATHVERSE.images(doc)


def doc_to_text(doc: Document, lmms_eval_specific_kwargs: Mapping[str, Any]) -> str:
    """Returns the benchmark's prompt in the column `query_type`: `query_wo` (answer directly) or `query_cot`."""
    MATHVERSE.require_columns(doc)
    return str(doc[lmms_eval_specific_kwargs["query_type"]]).strip()


def process_results(doc: Document, results: Sequence[str]) -> dict[str, Any]:
    """Scores the first reply; see `metrics.sample_line`."""
    return sample_line(MATHVERSE, doc, results[0])
