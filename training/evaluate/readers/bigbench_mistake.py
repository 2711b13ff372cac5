"""BIG-Bench-Mistake (arXiv 2311.08516): the first mistake in chains of thought on five tasks.

https://github.com/WHGTyen/BIG-Bench-Mistake, one file per task. `mistake_index` is 0-based, null where there is no
mistake; what stands behind a mistake is not labelled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

from annotated_types import MinLen
from pydantic import BaseModel, ConfigDict

from atomthink_plugin.training.evaluate.labelled import Labelled, Place, Reader, upto_error
from atomthink_plugin.training.records import Chain, MaybeText, Text


class _Record(BaseModel):
    model_config = ConfigDict(coerce_numbers_to_str=True)

    input: Text
    steps: Annotated[tuple[Text, ...], MinLen(1)]
    mistake_index: int | None
    target: MaybeText = ""
    answer: str | None = None
    task: MaybeText = ""


def read(record: Mapping[str, Any], place: Place) -> Sequence[Labelled]:
    """Returns the record's chain; its subset is its task, else its file's name."""
    found = _Record.model_validate(record)
    task = found.task or place.split
    chain = Chain(
        id=str(place),
        question=found.input,
        steps=found.steps,
        answer=found.target,
        labels=upto_error(len(found.steps), found.mistake_index),
    )
    known = found.answer is not None and bool(found.target)
    right = _plain(found.answer or "") == _plain(found.target) if known else None
    return [Labelled(chain, f"{task}: {found.input}", task, right=right)]


def _plain(answer: str) -> str:
    return answer.strip().casefold()


BIGBENCH_MISTAKE: Final = Reader(frozenset({"input", "steps", "mistake_index"}), read)
