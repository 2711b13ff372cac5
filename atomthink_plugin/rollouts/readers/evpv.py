"""Responses of a policy as EVPV-PRM reads and scores them: https://github.com/Qwen-Applications/EVPV-PRM.

A question per line, with `vlmresponse1` to `vlmresponse8`. A response is the policy's JSON: steps with what they see,
and the final answer. If that could not be parsed, it has an `error` and the `rawoutput`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from pydantic import AliasChoices, Field

from atomthink_plugin.rollouts.readers.pictures import pictures_of
from atomthink_plugin.rollouts.readers.reader import PublishedRecord, RolloutReader
from atomthink_plugin.rollouts.readers.record_parts import MaybeAnswer, TextTuple, is_blank
from atomthink_plugin.rollouts.rollout_set import RolloutCandidate, RolloutSet
from atomthink_plugin.source_rows import SourceRow

_RESPONSE: Final = re.compile(r"vlmresponse(\d+)")
_SCORES: Final = {"raw_step_scores": "evpv", "final_step_scores": "evpv_gated"}


class _EvpvStep(PublishedRecord):
    text: str = Field(validation_alias=AliasChoices("steptext", "steps", "step"))


class _EvpvResponse(PublishedRecord):
    reasoningprocess: tuple[_EvpvStep, ...] = ()
    finalanswer: MaybeAnswer = None
    rawoutput: str = ""
    eval: Mapping[str, Any] = Field(default_factory=dict)


class _EvpvQuestion(PublishedRecord):
    question: str
    pid: str | None = None
    id: str | None = None
    image: Any = None
    answer: MaybeAnswer = None
    choices: TextTuple = ()
    datasource: str = ""


def _read(row: SourceRow) -> list[RolloutSet]:
    found = _EvpvQuestion.model_validate(row.fields)
    numbers = sorted(int(match[1]) for match in map(_RESPONSE.fullmatch, row.fields) if match)
    responses = [_EvpvResponse.of_field(row.fields, f"vlmresponse{number}") for number in numbers]
    name = found.pid or found.id
    return [
        RolloutSet(
            id=f"{found.datasource}/{name}".strip("/") if name else "",
            question=found.question,
            candidates=tuple(map(_candidate, responses)),
            pictures=pictures_of(found.image, row.folder),
            choices=found.choices,
            gold=found.answer,
            subset=found.datasource,
            record=row.fields,
        )
    ]


def _candidate(given: _EvpvResponse) -> RolloutCandidate:
    steps = tuple(step.text.strip() for step in given.reasoningprocess)
    if not steps and given.finalanswer is None:
        return RolloutCandidate(given.rawoutput)
    stated = [] if given.finalanswer is None else [f"The final answer is: {given.finalanswer}"]
    scores = {prm: given.eval[field] for field, prm in _SCORES.items() if not is_blank(given.eval.get(field))}
    return RolloutCandidate(
        text="\n\n".join([*steps, *stated]),
        steps=steps or None,
        answer=given.finalanswer,
        scores={prm: tuple(map(float, values)) for prm, values in scores.items()},
    )


READER: Final = RolloutReader(frozenset({"question", "vlmresponse1"}), _read)
