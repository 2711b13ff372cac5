"""Predictions of VLMEvalKit, https://github.com/open-compass/VLMEvalKit: `MODEL_DATASET.xlsx`, `.tsv` or `.json`.

The columns of the benchmark and the model's `prediction`, with `thinking` if the toolkit split it off. A file has one
reply to each question, so N files are N candidates. The images are left out of the file; the toolkit keeps them as
`LMUData/images/DATASET/INDEX.png`.
"""

from __future__ import annotations

from typing import Any, Final

from atomthink_plugin.rollouts.readers.pictures import numbered_pictures, pictures_of
from atomthink_plugin.rollouts.readers.reader import PublishedRecord, RolloutReader
from atomthink_plugin.rollouts.readers.record_parts import MaybeAnswer, TextTuple, lettered_options, split_thought
from atomthink_plugin.rollouts.rollout_set import RolloutCandidate, RolloutSet
from atomthink_plugin.source_rows import SourceRow

FULL_CELL: Final = 32_767
"""The most characters of a cell of a spreadsheet."""

_FAILED: Final = "Failed to obtain answer via API"


class _Prediction(PublishedRecord):
    index: str
    question: str | None = None
    prediction: str | None
    thinking: str | None = None
    answer: MaybeAnswer = None
    choices: TextTuple = ()
    image: Any = None
    image_path: Any = None
    category: str | None = None


def _read(row: SourceRow) -> list[RolloutSet]:
    found = _Prediction.model_validate(row.fields)
    given = found.prediction or ""
    if _FAILED in given:
        raise ValueError(f"the request failed: {given[:100]}")
    thought, reply = split_thought(given)
    cut = FULL_CELL in (len(given), len(found.thinking or ""))
    pictures = pictures_of(found.image, row.folder) or pictures_of(found.image_path, row.folder)
    pictures = pictures or numbered_pictures(found.index, row.folder)
    if not pictures:
        raise ValueError(
            "its images are not in the file. Name the folder where VLMEvalKit keeps them, LMUData/images/DATASET, with "
            "`--images`"
        )
    return [
        RolloutSet(
            id=found.index,
            question=(found.question or "").strip(),
            candidates=(RolloutCandidate(reply, thought=found.thinking or thought, cut=cut),),
            pictures=pictures,
            choices=lettered_options(row.fields) or found.choices,
            gold=found.answer,
            subset=found.category or "",
            policy=row.split,
            record=row.fields,
        )
    ]


READER: Final = RolloutReader(frozenset({"index", "prediction"}), _read)
