"""ProcessBench (arXiv 2412.06559): the first wrong step of solutions to problems of four difficulties.

https://huggingface.co/datasets/Qwen/ProcessBench, one file or split per subset. `label` is the 0-based index of the
first wrong step, -1 where all are right; what stands behind a wrong step is not labelled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

from annotated_types import Ge, MinLen
from pydantic import BaseModel, ConfigDict

from atomthink_plugin.training.evaluate.labelled import Labelled, Place, Reader, upto_error
from atomthink_plugin.training.records import Chain, Text


class _Record(BaseModel):
    model_config = ConfigDict(coerce_numbers_to_str=True)

    id: Text
    problem: Text
    steps: Annotated[tuple[Text, ...], MinLen(1)]
    label: Annotated[int, Ge(-1)]
    final_answer_correct: bool | None = None


def read(record: Mapping[str, Any], place: Place) -> Sequence[Labelled]:
    """Returns the record's chain; its subset is the beginning of its id (`gsm8k-12`), else its file's name."""
    found = _Record.model_validate(record)
    labels = upto_error(len(found.steps), None if found.label == -1 else found.label)
    chain = Chain(id=found.id, question=found.problem, steps=found.steps, labels=labels)
    subset = found.id.rpartition("-")[0] or place.split
    return [Labelled(chain, f"{subset}: {found.problem}", subset, right=found.final_answer_correct)]


PROCESSBENCH: Final = Reader(frozenset({"problem", "steps", "label"}), read)
