"""The test file of DreamPRM-1.5: https://github.com/coder-qicao/DreamPRM-1.5, `test.py`.

A question per record. `true_false` says which candidates are right.
"""

from __future__ import annotations

from typing import Any, Final

from pydantic import AliasChoices, Field

from atomthink_plugin.rollouts.readers.pictures import pictures_of
from atomthink_plugin.rollouts.readers.reader import PublishedRecord, RolloutReader
from atomthink_plugin.rollouts.readers.record_parts import one_each, split_thought
from atomthink_plugin.rollouts.rollout_set import RolloutCandidate, RolloutSet
from atomthink_plugin.source_rows import SourceRow


class _DreamQuestion(PublishedRecord):
    question: str
    image_path: Any = None
    candidates: tuple[str, ...] = Field(min_length=1, validation_alias=AliasChoices("candidates", "candidate"))
    true_false: tuple[bool, ...]


def _read(row: SourceRow) -> list[RolloutSet]:
    found = _DreamQuestion.model_validate(row.fields)
    labels = one_each("true_false", found.true_false, len(found.candidates))
    candidates = []
    for text, right in zip(found.candidates, labels, strict=True):
        thought, reply = split_thought(text)
        candidates.append(RolloutCandidate(reply, correct=right, thought=thought))
    pictures = pictures_of(found.image_path, row.folder)
    return [RolloutSet(id="", question=found.question, candidates=tuple(candidates), pictures=pictures)]


READER: Final = RolloutReader(frozenset({"question", "image_path", "true_false"}), _read)
