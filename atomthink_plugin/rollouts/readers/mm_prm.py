"""Solutions that MM-PRM and BIS score: https://github.com/ModalMinds/MM-PRM, `eval/prm`.

A JSON list with a question each: the steps of its solutions, whether each solution is right, and step scores.
"""

from __future__ import annotations

from typing import Any, Final

from pydantic import AliasChoices, Field

from atomthink_plugin.rollouts.readers.pictures import pictures_of
from atomthink_plugin.rollouts.readers.reader import PublishedRecord, RolloutReader
from atomthink_plugin.rollouts.readers.record_parts import MaybeAnswer, one_each, without_placeholder
from atomthink_plugin.rollouts.rollout_set import RolloutCandidate, RolloutSet
from atomthink_plugin.source_rows import SourceRow

_PRM: Final = "mm_prm"


class _MmPrmQuestion(PublishedRecord):
    question: str = Field(validation_alias=AliasChoices("question", "query", "query_cot"))
    image: Any = Field(None, validation_alias=AliasChoices("image_path", "image"))
    solutions_splits: tuple[tuple[str, ...], ...] = Field(min_length=1)
    labels: tuple[bool, ...] | None = None
    prm_scores: tuple[tuple[float, ...], ...] | None = None
    id: str | None = Field(None, validation_alias=AliasChoices("id", "pid", "index"))
    answer: MaybeAnswer = None


def _read(row: SourceRow) -> list[RolloutSet]:
    found = _MmPrmQuestion.model_validate(row.fields)
    count = len(found.solutions_splits)
    labels = one_each("labels", found.labels, count)
    scores = one_each("prm_scores", found.prm_scores, count)
    return [
        RolloutSet(
            id=found.id or "",
            question=without_placeholder(found.question),
            candidates=tuple(map(_candidate, found.solutions_splits, labels, scores)),
            pictures=pictures_of(found.image, row.folder),
            gold=found.answer,
            record=row.fields,
        )
    ]


def _candidate(steps: tuple[str, ...], right: bool | None, scores: tuple[float, ...] | None) -> RolloutCandidate:
    known = {} if scores is None else {_PRM: tuple(one_each("prm_scores", scores, len(steps), "steps"))}
    return RolloutCandidate("\n\n".join(map(str.strip, steps)), steps or None, correct=right, scores=known)


READER: Final = RolloutReader(frozenset({"solutions_splits"}), _read)
