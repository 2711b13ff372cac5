"""Completions of Search and Learn (SaL): https://github.com/huggingface/search-and-learn.

A row of MATH-500 with its `completions`, the `scores` of their steps, and their numbers of tokens.
"""

from __future__ import annotations

from typing import Final

from pydantic import Field

from atomthink_plugin.rollouts.readers.reader import PublishedRecord, RolloutReader
from atomthink_plugin.rollouts.readers.record_parts import MaybeAnswer, one_each
from atomthink_plugin.rollouts.rollout_set import RolloutCandidate, RolloutSet
from atomthink_plugin.source_rows import SourceRow


class _SalQuestion(PublishedRecord):
    problem: str
    completions: tuple[str, ...] = Field(min_length=1)
    scores: tuple[tuple[float, ...], ...] | None = None
    completion_tokens: tuple[int, ...] | None = None
    answer: MaybeAnswer = None
    unique_id: str = ""
    subject: str | None = None


def _read(row: SourceRow) -> list[RolloutSet]:
    found = _SalQuestion.model_validate(row.fields)
    count = len(found.completions)
    scores = one_each("scores", found.scores, count)
    tokens = one_each("completion_tokens", found.completion_tokens, count)
    candidates = [
        RolloutCandidate(text, tokens=spent, scores={} if known is None else {"sal": known})
        for text, known, spent in zip(found.completions, scores, tokens, strict=True)
    ]
    return [
        RolloutSet(
            id=found.unique_id,
            question=found.problem,
            candidates=tuple(candidates),
            gold=found.answer,
            subset=found.subject or "",
            record=row.fields,
        )
    ]


READER: Final = RolloutReader(frozenset({"problem", "completions"}), _read)
