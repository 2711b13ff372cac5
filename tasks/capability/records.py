"""The records of `atomthink atoms`: one for each step of a reference chain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from annotated_types import MinLen
from pydantic import ConfigDict

from atomthink_plugin.answers import equivalent, final_answer
from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.text_fields import Text
from atomthink_plugin.training.records import Chain, QuestionRecord, RecordFile, read_records


class StepRecord(QuestionRecord):
    """The beginning of a reference chain, and the ability that its last step needs.

    Attributes:
        chain: The chain's id. Intervals are computed over chains, because the prefixes of a chain are not independent.
        answer: The right answer.
        history: The steps from the first one to the step of this record.
        ability: The ability that the last step of the history needs, by its name in the taxonomy.
        behaviour: The name of the cluster that this step is in.
    """

    model_config = ConfigDict(extra="forbid")

    chain: Text
    answer: Text
    history: Annotated[tuple[Text, ...], MinLen(1)]
    ability: Text
    behaviour: str = ""


def read_reference_chains(file: Path, limit: int | None = None) -> RecordFile[Chain]:
    """Returns the chains of a file, which all need an answer.

    Raises:
        AtomThinkError: A record or an image cannot be read, or a chain concludes with another answer than its own.
    """
    chains = read_records(file, Chain, limit=limit, required=("answer",), strict=True)
    for chain in chains.records:
        _require_conclusion(file, chain.id, chain.steps[-1], chain.answer)
    return chains


def read_step_records(file: Path) -> RecordFile[StepRecord]:
    """Returns the records of a file.

    Raises:
        AtomThinkError: A record or an image cannot be read, or a history concludes with another answer than its own.
    """
    records = read_records(file, StepRecord, strict=True)
    for record in records.records:
        _require_conclusion(file, record.id, record.history[-1], record.answer)
    return records


def _require_conclusion(file: Path, identity: str, step: str, answer: str) -> None:
    concluded = final_answer(step)
    if concluded is not None and not equivalent(concluded, answer):
        raise AtomThinkError(
            f"{file}: {identity!r} concludes with {concluded!r}, but its answer is {answer!r}. Correct one of them"
        )
