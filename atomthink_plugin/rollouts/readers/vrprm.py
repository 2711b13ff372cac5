"""Rollouts for best-of-N with VRPRM: https://github.com/two-tiger/VRPRM2, `benchmarks/vlmeval_bon`.

`rollouts_nN.jsonl` has a question per line with the texts of its rollouts. Its `.candidates.jsonl` has the same
rollouts, one per line in the order in which they ended. Files of scores have the same indices and texts with step
scores, but not the question: read them together with the rollouts.
"""

from __future__ import annotations

from typing import Any, Final

from pydantic import Field

from atomthink_plugin.rollouts.readers.pictures import pictures_of
from atomthink_plugin.rollouts.readers.reader import PublishedRecord, RolloutReader
from atomthink_plugin.rollouts.readers.record_parts import MaybeAnswer, split_thought
from atomthink_plugin.rollouts.rollout_set import RolloutCandidate, RolloutSet
from atomthink_plugin.source_rows import SourceRow


class _VrprmQuestion(PublishedRecord):
    index: str
    vlmeval_dataset: str
    dataset: str | None = None
    question: str | None = None
    prompt: str | None = None
    policy_model: str | None = None
    answer: MaybeAnswer = None
    images: Any = None
    reward_mode: str | None = None


class _VrprmCandidate(PublishedRecord):
    rollout: str
    step_scores: tuple[float, ...] | None = None
    error: str | None = None


class _VrprmScores(PublishedRecord):
    candidates: tuple[_VrprmCandidate, ...] = Field(min_length=1)


class _VrprmRollouts(PublishedRecord):
    rollouts: tuple[str, ...] = Field(min_length=1)


def _read(row: SourceRow) -> list[RolloutSet]:
    found = _VrprmQuestion.model_validate(row.fields)
    prm = found.reward_mode or "vrprm"
    if "rollouts" in row.fields:
        candidates = [_VrprmCandidate(rollout=text) for text in _VrprmRollouts.model_validate(row.fields).rollouts]
    elif "candidates" in row.fields:
        candidates = list(_VrprmScores.model_validate(row.fields).candidates)
    else:
        candidates = [_VrprmCandidate.model_validate(row.fields)]
        if candidates[0].error:
            raise ValueError(f"the request failed: {candidates[0].error}")
    return [
        RolloutSet(
            id=f"{found.vlmeval_dataset}/{found.index}",
            question=found.question or found.prompt or "",
            candidates=tuple(_candidate(one, prm) for one in candidates),
            pictures=pictures_of(found.images, row.folder),
            gold=found.answer,
            subset=found.dataset or found.vlmeval_dataset,
            policy=found.policy_model or "",
            record=row.fields,
        )
    ]


def _candidate(given: _VrprmCandidate, prm: str) -> RolloutCandidate:
    thought, reply = split_thought(given.rollout)
    scored = given.step_scores is not None and not given.error
    return RolloutCandidate(reply, thought=thought, scores={prm: given.step_scores or ()} if scored else {})


READER: Final = RolloutReader(
    frozenset({"index", "vlmeval_dataset", "policy_model"}),
    _read,
    key=("index", "candidate_idx"),
    latest=True,
    order="candidate_idx",
    log=".candidates",
)
