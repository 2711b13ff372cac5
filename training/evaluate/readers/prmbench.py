"""PRMBench (arXiv 2501.03124): right solutions and what they became by a change of one of nine kinds.

https://github.com/ssmisya/PRMBench. `error_steps` are 1-based; all other steps of a changed solution are right. Every
problem's right solution comes with each of its records, in spellings that differ in their formulas, and counts once,
as in the benchmark's own evaluation (mr_eval/tasks/prmtest_classified/task.py), which takes those of one kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

from annotated_types import MinLen
from pydantic import BaseModel, ConfigDict

from atomthink_plugin.training.evaluate.labelled import Labelled, Place, Reader
from atomthink_plugin.training.records import Chain, Text

ORIGINAL: Final = "correct"
"""The subset of right solutions, by the benchmark's own name."""

Steps = Annotated[tuple[Text, ...], MinLen(1)]


class _Record(BaseModel):
    model_config = ConfigDict(coerce_numbers_to_str=True)

    idx: Text
    original_question: Text
    modified_question: Text
    original_process: Steps
    modified_process: Steps
    error_steps: tuple[int, ...]
    classification: Text


def read(record: Mapping[str, Any], place: Place) -> Sequence[Labelled]:
    """Returns the changed solution and the right one; their question is the problem's index."""
    found = _Record.model_validate(record)
    count = len(found.modified_process)
    beyond = [step for step in found.error_steps if not 1 <= step <= count]
    if beyond:
        raise ValueError(f"error_steps: {beyond}, and the {count} steps are numbered from 1")
    kind = found.classification
    problem = found.idx.removeprefix(f"{kind}_")
    changed = Chain(
        id=f"{kind}_{problem}",
        question=found.modified_question,
        steps=found.modified_process,
        labels=tuple(0.0 if number in found.error_steps else 1.0 for number in range(1, count + 1)),
    )
    original = Chain(
        id=f"{ORIGINAL}_{problem}",
        question=found.original_question,
        steps=found.original_process,
        labels=(1.0,) * len(found.original_process),
    )
    return [Labelled(changed, problem, kind), Labelled(original, problem, ORIGINAL)]


PRMBENCH: Final = Reader(frozenset({"original_process", "modified_process", "error_steps"}), read)
