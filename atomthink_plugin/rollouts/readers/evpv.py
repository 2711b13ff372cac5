"""Responses of a policy as EVPV-PRM reads and scores them: https://github.com/Qwen-Applications/EVPV-PRM.

A question per line, with `vlmresponse1` to `vlmresponse8`. A response is the policy's JSON: steps with what they see,
and the final answer. If that could not be parsed, it has an `error` and the `rawoutput`.
"""

from __future__ import annotations

import re
from typing import Any, Final

from pydantic import AliasChoices, Field

from atomthink_plugin.rollouts.readers.pictures import pictures_of
from atomthink_plugin.rollouts.readers.reader import PublishedRecord, RolloutReader
from atomthink_plugin.rollouts.readers.record_parts import MaybeAnswer, TextTuple, one_each
from atomthink_plugin.rollouts.rollout_set import RolloutCandidate, RolloutSet
from atomthink_plugin.source_rows import SourceRow

_RESPONSE: Final = re.compile(r"vlmresponse(\d+)")


class _EvpvStep(PublishedRecord):
    text: str = Field(validation_alias=AliasChoices("steptext", "steps", "step"))


class _EvpvEvaluation(PublishedRecord):
    raw_step_scores: tuple[float, ...] | None = None
    final_step_scores: tuple[float, ...] | None = None

    def by_prm(self, steps: int) -> dict[str, tuple[float, ...]]:
        """Returns the scores without and with the gate of their reliability."""
        named = {"evpv": self.raw_step_scores, "evpv_gated": self.final_step_scores}
        found = {prm: scores for prm, scores in named.items() if scores is not None}
        for prm, scores in found.items():
            one_each(prm, scores, steps, "steps")
        return found


class _EvpvResponse(PublishedRecord):
    reasoningprocess: tuple[_EvpvStep, ...] = ()
    finalanswer: MaybeAnswer = None
    rawoutput: str = ""
    eval: _EvpvEvaluation = _EvpvEvaluation()


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
    return RolloutCandidate(
        text="\n\n".join([*steps, *stated]),
        steps=steps or None,
        answer=given.finalanswer,
        scores=given.eval.by_prm(len(steps)),
    )


READER: Final = RolloutReader(frozenset({"question", "vlmresponse1"}), _read)
