"""Results of the guided search of Qwen-VL-PRM: https://github.com/theogbrand/vlprm, `eval/tts_eval`.

A JSON list with a question each. `iteration_history` has the candidates of every iteration and which was chosen. With
a single iteration, its candidates are whole replies. With several, a candidate that ends with the end mark is the end
of a reply, which begins with the steps that were chosen before. Identical candidates were written once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import Field

from atomthink_plugin.rollouts.readers.pictures import pictures_of
from atomthink_plugin.rollouts.readers.reader import PublishedRecord, RolloutReader
from atomthink_plugin.rollouts.readers.record_parts import MaybeAnswer, lettered_options, option_texts
from atomthink_plugin.rollouts.rollout_set import RolloutCandidate, RolloutSet
from atomthink_plugin.source_rows import SourceRow

_END_MARKS: Final = ("<|im_end|>", "<end_of_turn>")
_PRM: Final = "vlprm"


class _VlprmReward(PublishedRecord):
    positive_prob: float | None = None


class _VlprmCandidate(PublishedRecord):
    candidate_step: str
    reward_result: _VlprmReward = _VlprmReward()

    @property
    def ends(self) -> bool:
        return self.candidate_step.rstrip().endswith(_END_MARKS)

    @property
    def text(self) -> str:
        text = self.candidate_step
        for mark in _END_MARKS:
            text = text.replace(mark, "")
        return text.strip()


class _VlprmIteration(PublishedRecord):
    candidates_info: tuple[_VlprmCandidate, ...]
    chosen_step_index: int | None = None


class _VlprmQuestion(PublishedRecord):
    question: str
    index: str
    task: str = ""
    annotation: Mapping[str, Any] = Field(default_factory=dict)
    iteration_history: tuple[_VlprmIteration, ...] = Field(min_length=1)
    gt_answer: MaybeAnswer = None


def _read(row: SourceRow) -> list[RolloutSet]:
    found = _VlprmQuestion.model_validate(row.fields)
    candidates = _candidates(found.iteration_history)
    if not candidates:
        raise ValueError("iteration_history: no candidate ends a reply")
    noted = found.annotation
    return [
        RolloutSet(
            id=f"{found.task}/{found.index}".strip("/"),
            question=found.question,
            candidates=tuple(candidates),
            pictures=pictures_of(noted.get("image"), row.folder),
            choices=option_texts(noted.get("choices") or noted.get("options")) or lettered_options(noted),
            gold=found.gt_answer,
            subset=found.task,
            record=noted,
        )
    ]


def _candidates(history: tuple[_VlprmIteration, ...]) -> list[RolloutCandidate]:
    if len(history) == 1:
        return [RolloutCandidate(one.text) for one in history[0].candidates_info]
    found = []
    chosen: list[_VlprmCandidate] = []
    for iteration in history:
        found += [_chain([*chosen, one]) for one in iteration.candidates_info if one.ends]
        if iteration.chosen_step_index is not None:
            if not 0 <= iteration.chosen_step_index < len(iteration.candidates_info):
                raise ValueError(f"chosen_step_index: there is no candidate {iteration.chosen_step_index}")
            chosen.append(iteration.candidates_info[iteration.chosen_step_index])
    return found


def _chain(line: list[_VlprmCandidate]) -> RolloutCandidate:
    steps = tuple(one.text for one in line)
    scores = tuple(one.reward_result.positive_prob for one in line if one.reward_result.positive_prob is not None)
    scored = {_PRM: scores} if len(scores) == len(steps) else {}
    return RolloutCandidate("\n\n".join(steps), steps, scores=scored)


def _notes(sets: Sequence[RolloutSet]) -> list[str]:
    return ["the files have identical candidates once only, so an answer has fewer votes than it was sampled"]


READER: Final = RolloutReader(frozenset({"question", "index", "iteration_history"}), _read, notes=_notes)
