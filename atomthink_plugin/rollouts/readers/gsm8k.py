"""Solutions of four models to GSM8K's test questions: https://github.com/openai/grade-school-math.

`example_model_solutions.jsonl` has a question per line, and for each model a solution with its verdict. A solution has
a step per line, calculator marks such as `<<16-3=13>>`, and its answer in a last line `A: 13`.
"""

from __future__ import annotations

import re
from typing import Final

from atomthink_plugin.rollouts.readers.reader import PublishedRecord, RolloutReader
from atomthink_plugin.rollouts.rollout_set import RolloutCandidate, RolloutSet
from atomthink_plugin.source_rows import SourceRow

MODELS: Final = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
"""The models, whose solutions are the candidates in this order."""

_MARK: Final = re.compile(r"<<[^<>]*>>")
_ANSWER: Final = re.compile(r"^A:(.*)\Z", re.MULTILINE)


class _Solution(PublishedRecord):
    is_correct: bool
    solution: str


class _Question(PublishedRecord):
    question: str
    ground_truth: str


def _read(row: SourceRow) -> list[RolloutSet]:
    found = _Question.model_validate(row.fields)
    solutions = [_Solution.of_field(row.fields, model) for model in MODELS]
    return [
        RolloutSet(
            id="",
            question=found.question,
            candidates=tuple(map(_candidate, solutions)),
            gold=_answer(found.ground_truth),
            policy=", ".join(MODELS),
        )
    ]


def _candidate(given: _Solution) -> RolloutCandidate:
    text = _MARK.sub("", given.solution).strip()
    steps = tuple(line.strip() for line in text.splitlines() if line.strip())
    return RolloutCandidate(text, steps or None, _answer(text), given.is_correct)


def _answer(solution: str) -> str | None:
    stated = _ANSWER.search(solution.strip())
    return (stated[1].strip() or None) if stated else None


READER: Final = RolloutReader(frozenset({"question", "ground_truth", *MODELS}), _read)
