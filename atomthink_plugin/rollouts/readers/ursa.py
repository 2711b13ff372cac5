"""Solutions that URSA-RM scores: https://github.com/URSA-MATH/URSA-MATH, `inference/prm_infer_score.py`.

A CSV file with a question per row. `model_answer` and `extraction` are lists that are written as text: the solutions
with their steps `Step k: ...` and their final answers. `label0`, `label1`, ... say which are right.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from pydantic import Field

from atomthink_plugin.rollouts.readers.pictures import pictures_of
from atomthink_plugin.rollouts.readers.reader import PublishedRecord, RolloutReader
from atomthink_plugin.rollouts.readers.record_parts import MaybeAnswer, TextTuple, is_blank
from atomthink_plugin.rollouts.rollout_set import RolloutCandidate, RolloutSet
from atomthink_plugin.source_rows import SourceRow

_STEP: Final = re.compile(r"^(?=(?:Step)?Step \d)", re.MULTILINE)
_ANSWER: Final = "†Answer:"
_RIGHT: Final = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}


class _UrsaQuestion(PublishedRecord):
    question: str | None = None
    image: Any = None
    model_answer: TextTuple = Field(min_length=1)
    extraction: TextTuple
    answer: MaybeAnswer = None
    choices: TextTuple = ()
    pid: MaybeAnswer = None


def _read(row: SourceRow) -> list[RolloutSet]:
    found = _UrsaQuestion.model_validate(row.fields)
    if len(found.extraction) != len(found.model_answer):
        raise ValueError(f"extraction: {len(found.extraction)} for {len(found.model_answer)} solutions")
    candidates = [
        _candidate(text, answer, _label(row.fields, at))
        for at, (text, answer) in enumerate(zip(found.model_answer, found.extraction, strict=True))
    ]
    return [
        RolloutSet(
            id=found.pid or "",
            question=(found.question or "").strip(),
            candidates=tuple(candidates),
            pictures=pictures_of(found.image, row.folder),
            choices=found.choices,
            gold=found.answer,
            record=row.fields,
        )
    ]


def _label(fields: Mapping[str, Any], at: int) -> bool | None:
    label = fields.get(f"label{at}")
    if is_blank(label):
        return None
    right = _RIGHT.get(str(label).strip().lower())
    if right is None:
        raise ValueError(f"label{at}: {label!r} is neither 0 nor 1")
    return right


def _candidate(text: str, answer: str, right: bool | None) -> RolloutCandidate:
    body = text.partition(_ANSWER)[0]
    steps = tuple(part.strip() for part in _STEP.split(body) if part.startswith("Step"))
    stated = answer.strip().removeprefix("Answer:").strip()
    return RolloutCandidate(text.replace("†", "").strip(), steps or None, stated or None, right)


READER: Final = RolloutReader(frozenset({"image", "model_answer", "extraction"}), _read)
