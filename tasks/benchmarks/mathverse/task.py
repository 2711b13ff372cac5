"""MathVerse's questions for any model, its breakdowns, its scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from PIL import Image

from atomthink_plugin.tasks.benchmarks.benchmark import Benchmark, Document
from atomthink_plugin.tasks.benchmarks.metrics import scored


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
    evaluated=lambda doc: str(doc["question_for_eval"]),
)


def doc_to_visual(doc: Document) -> list[Image.Image]:
    """Returns the question's image; none for the text-only version."""
    return MATHVERSE.images(doc)


def doc_to_text(doc: Document, lmms_eval_specific_kwargs: Mapping[str, Any]) -> str:
    """Returns the benchmark's own prompt that `query_type` names: `query_wo` (answer directly) or `query_cot`."""
    MATHVERSE.require_columns(doc)
    return str(doc[lmms_eval_specific_kwargs["query_type"]]).strip()


def process_results(doc: Document, results: Sequence[str]) -> dict[str, Any]:
    """Scores the first reply; see `results.scored`."""
    return scored(MATHVERSE, doc, results[0])
