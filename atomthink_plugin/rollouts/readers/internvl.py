"""Solutions of InternVL's data pipeline, `tools/reasoning_data_pipeline`, as in VisualPRM400K-v1.1-Raw.

A solution per line, its steps with their Monte-Carlo scores. Lines with one question and image are its candidates.
"""

from __future__ import annotations

from typing import Any, Final

from pydantic import Field

from atomthink_plugin.rollouts.readers.pictures import pictures_of
from atomthink_plugin.rollouts.readers.reader import PublishedRecord, RolloutReader
from atomthink_plugin.rollouts.readers.record_parts import MaybeAnswer, without_placeholder
from atomthink_plugin.rollouts.rollout_set import RolloutCandidate, RolloutSet
from atomthink_plugin.source_rows import SourceRow

_SCORES: Final = "monte_carlo"


class _ScoredStep(PublishedRecord):
    step: str
    score: float | None = None


class _InternVlSolution(PublishedRecord):
    question: str
    question_orig: str | None = None
    image: Any = None
    answer: MaybeAnswer = None
    response: str | None = None
    steps_with_score: tuple[_ScoredStep, ...] = Field(min_length=1)


def _read(row: SourceRow) -> list[RolloutSet]:
    found = _InternVlSolution.model_validate(row.fields)
    steps = tuple(one.step.strip() for one in found.steps_with_score)
    scores = tuple(one.score for one in found.steps_with_score if one.score is not None)
    known = {_SCORES: scores} if len(scores) == len(steps) else {}
    text = found.response or "\n\n".join(steps)
    return [
        RolloutSet(
            id="",
            question=without_placeholder(found.question_orig or found.question),
            candidates=(RolloutCandidate(text, steps, scores=known),),
            pictures=pictures_of(found.image, row.folder),
            gold=found.answer,
        )
    ]


READER: Final = RolloutReader(frozenset({"question", "steps_with_score"}), _read)
