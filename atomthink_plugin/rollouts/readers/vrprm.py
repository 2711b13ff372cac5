"""Rollouts for best-of-N with VRPRM: https://github.com/two-tiger/VRPRM2, `benchmarks/vlmeval_bon`.

`rollouts_nN.jsonl` has a question per line with the texts of its rollouts. A file of scores has the same questions with
`candidates`, each a rollout with its step scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import Field

from atomthink_plugin.rollouts.readers.pictures import pictures_of
from atomthink_plugin.rollouts.readers.reader import PublishedRecord, RolloutReader
from atomthink_plugin.rollouts.rollout_set import RolloutCandidate, RolloutSet
from atomthink_plugin.source_rows import SourceRow

_PRM: Final = "vrprm"


class _VrprmQuestion(PublishedRecord):
    index: str
    question: str = ""
    prompt: str = ""
    dataset: str = ""
    vlmeval_dataset: str = ""
    policy_model: str = ""
    answer: str | None = None
    images: Any = None


class _VrprmRollouts(_VrprmQuestion):
    rollouts: tuple[str, ...] = Field(min_length=1)


class _VrprmCandidate(PublishedRecord):
    candidate_idx: int
    rollout: str
    step_scores: tuple[float, ...] | None = None
    error: str | None = None


class _VrprmScores(_VrprmQuestion):
    candidates: tuple[_VrprmCandidate, ...] = Field(min_length=1)


def _read_rollouts(row: SourceRow) -> list[RolloutSet]:
    found = _VrprmRollouts.model_validate(row.fields)
    return [_set(found, tuple(map(RolloutCandidate, found.rollouts)), row)]


def _read_scores(row: SourceRow) -> list[RolloutSet]:
    found = _VrprmScores.model_validate(row.fields)
    ordered = sorted(found.candidates, key=lambda one: one.candidate_idx)
    return [_set(found, tuple(map(_scored, ordered)), row)]


def _scored(given: _VrprmCandidate) -> RolloutCandidate:
    scores: Mapping[str, tuple[float, ...]] = {}
    if given.step_scores and not given.error:
        scores = {_PRM: given.step_scores}
    return RolloutCandidate(given.rollout, scores=scores)


def _set(found: _VrprmQuestion, candidates: tuple[RolloutCandidate, ...], row: SourceRow) -> RolloutSet:
    question = found.question or found.prompt
    if not question:
        raise ValueError("question, prompt: both are missing or empty")
    dataset = found.dataset or found.vlmeval_dataset
    return RolloutSet(
        id=f"{dataset}/{found.index}" if dataset else found.index,
        question=question,
        candidates=candidates,
        pictures=pictures_of(found.images, row.folder),
        gold=found.answer or None,
        subset=dataset,
        policy=found.policy_model,
        record=row.fields,
    )


ROLLOUTS: Final = RolloutReader(frozenset({"index", "policy_model", "rollouts"}), _read_rollouts)
SCORES: Final = RolloutReader(frozenset({"index", "candidates", "best_idx"}), _read_scores)
