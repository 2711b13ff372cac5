"""The documents of the tasks: one per solution, from the published records."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import datasets
from loguru import logger

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.json_rows import describe_error
from atomthink_plugin.step_metrics.judged_steps import StepLabels
from atomthink_plugin.step_metrics.published_sets import PUBLISHED_SETS, LabelledSolution, PublishedSet, add_new

Document = Mapping[str, Any]
"""A solution as the harness holds it: `question`, `steps` and `images` for the critic, the rest for the metrics."""

VISUAL: Final = Path("OpenGVLab/VisualProcessBench")
"""The folder with VisualProcessBench's images, in the current folder. Its records name the images only."""

_TEXT: Final = datasets.Value("string")
_FEATURES: Final = datasets.Features(
    {
        "id": _TEXT,
        "question": _TEXT,
        "images": datasets.List(_TEXT),
        "steps": datasets.List(_TEXT),
        "labels": datasets.List(datasets.Value("bool")),
        "problem": _TEXT,
        "subset": _TEXT,
        "right": datasets.Value("bool"),
    }
)

_NUMBERS: Final = datasets.List(datasets.Value("int64"))

PRMBENCH_COLUMNS: Final = datasets.Features(
    {
        **dict.fromkeys(("idx", "question", "original_question", "modified_question", "classification"), _TEXT),
        **dict.fromkeys(("reason", "ground_truth", "original_response"), _TEXT),
        **dict.fromkeys(("original_process", "modified_process"), datasets.List(_TEXT)),
        **dict.fromkeys(("modified_steps", "error_steps"), _NUMBERS),
    }
)
"""The columns of all classes. Only some records have the last texts, so `datasets` cannot infer them from the first."""


def _documents(name: PublishedSet, rows: datasets.Dataset, folder: Path = Path()) -> datasets.Dataset:
    """Returns the documents of a set. Records that cannot be read are left out, with a warning.

    Raises:
        AtomThinkError: No record can be read.
    """
    known: dict[str, LabelledSolution] = {}
    reasons = []
    for at, row in enumerate(rows):
        try:
            add_new(known, *PUBLISHED_SETS[name].read(row, f"{rows.split}:{at}", str(rows.split)))
        except ValueError as error:
            reasons.append(f"record {at}: {describe_error(error)}")
    if not known:
        raise AtomThinkError(f"no record of {name} can be used; {reasons[0] if reasons else 'there is none'}")
    if reasons:
        logger.warning(f"{len(reasons)} of {len(rows)} records of {name} are left out; {reasons[0]}")
    return datasets.Dataset.from_list([_document(one, folder) for one in known.values()], features=_FEATURES)


def _document(solution: LabelledSolution, folder: Path) -> dict[str, Any]:
    truth = solution.truth
    return {
        "id": solution.id,
        "question": solution.question,
        "images": [str(folder / str(image.path)) for image in solution.images],
        "steps": list(solution.steps),
        "labels": list(truth.labels),
        "problem": truth.question,
        "subset": truth.subset,
        "right": truth.right,
    }


def processbench(rows: datasets.Dataset) -> datasets.Dataset:
    """Returns the documents of a subset of ProcessBench."""
    return _documents("processbench", rows)


def prmbench(rows: datasets.Dataset) -> datasets.Dataset:
    """Returns the documents of PRMBench: each modified solution, and each problem's own solution once."""
    return _documents("prmbench", rows)


def visualprocessbench(rows: datasets.Dataset) -> datasets.Dataset:
    """Returns the documents of VisualProcessBench.

    Raises:
        AtomThinkError: An image is missing.
    """
    documents = _documents("visualprocessbench", rows, VISUAL)
    missing = next((name for images in documents["images"] for name in images if not Path(name).is_file()), None)
    if missing is not None:
        raise AtomThinkError(
            f"the image {missing} is missing. VisualProcessBench has its images in a file of their own: in the current "
            f"folder run `hf download {VISUAL} --repo-type dataset --local-dir {VISUAL}`, and unpack images.zip there"
        )
    return documents


def truth_of(doc: Document) -> StepLabels:
    """Returns what is known about the steps of a document."""
    return StepLabels(doc["problem"], tuple(doc["labels"]), doc["subset"], doc["right"])
