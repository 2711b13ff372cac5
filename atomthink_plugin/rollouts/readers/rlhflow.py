"""Solutions of RLHFlow's test sets: https://github.com/RLHFlow/RLHF-Reward-Modeling, `math-rm`.

A question per row. `label` says which of the `answers` are right; a scored file has `step_scores`.
"""

from __future__ import annotations

from typing import Final

from pydantic import Field

from atomthink_plugin.rollouts.readers.reader import PublishedRecord, RolloutReader
from atomthink_plugin.rollouts.readers.record_parts import one_each
from atomthink_plugin.rollouts.rollout_set import RolloutCandidate, RolloutSet
from atomthink_plugin.source_rows import SourceRow

_STEP_TAG: Final = "ки"
"""The mark after each step in answers of Mistral."""


class _RlhflowQuestion(PublishedRecord):
    prompt: str
    answers: tuple[str, ...] = Field(min_length=1)
    label: tuple[bool, ...] | None = None
    step_scores: tuple[tuple[float, ...], ...] | None = None


def _read(row: SourceRow) -> list[RolloutSet]:
    found = _RlhflowQuestion.model_validate(row.fields)
    count = len(found.answers)
    labels = one_each("label", found.label, count)
    scores = one_each("step_scores", found.step_scores, count)
    candidates = []
    for text, right, known in zip(found.answers, labels, scores, strict=True):
        tagged = [part.strip() for part in text.split(_STEP_TAG) if part.strip()] if _STEP_TAG in text else []
        shown = "\n".join(tagged) if tagged else text
        named = {} if known is None else {"rlhflow": known}
        candidates.append(RolloutCandidate(shown, tuple(tagged) or None, correct=right, scores=named))
    return [RolloutSet(id="", question=found.prompt, candidates=tuple(candidates), record=row.fields)]


READER: Final = RolloutReader(frozenset({"prompt", "answers"}), _read)
