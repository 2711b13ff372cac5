"""Finds the question in a text, after the instructions that a task puts before each question."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, Final

_SENTENCE: Final = re.compile(r"[^\n]*?(?:[.!?:](?=\s|[A-Z<])|(?<=[\"”)}])[.!?:]|\n|\Z)\s*")
"""A line or a sentence with the space after it, which may be missing."""

_READ: Final = 4000
"""Characters of each text that are searched for instructions."""

_SHARED: Final = 0.2
"""A sentence is an instruction if this share of a task's texts begin with it, or have it after instructions."""

_FEWEST: Final = 3
"""The least number of texts that must share an instruction, if the task has as many."""


def questions_in(texts: Sequence[tuple[Hashable, str, Mapping[str, Any]]]) -> list[str]:
    """Returns each text without the instructions that it shares with others of its task.

    Args:
        texts: For each question its task, its text, and the benchmark's record, which may contain the question alone.
    """
    by_task: dict[Hashable, set[str]] = {}
    for task, text, _ in texts:
        by_task.setdefault(task, set()).add(text)
    shared = {task: _instructions(distinct) for task, distinct in by_task.items()}
    return [_own(record) or _without(text, shared[task]) for task, text, record in texts]


def _own(record: Mapping[str, Any]) -> str:
    question = record.get("question")
    return question.strip() if isinstance(question, str) else ""


def _sentences(text: str) -> list[str]:
    return [part for part in _SENTENCE.findall(text[:_READ]) if part]


def _instructions(texts: Iterable[str]) -> set[str]:
    """Returns the sentences that many texts begin with, or have after such sentences, without questions."""
    waiting = [_sentences(text) for text in texts]
    enough = max(2, min(_FEWEST, len(waiting)), _SHARED * len(waiting))
    found: set[str] = set()
    while waiting:
        counts = Counter(parts[0] for parts in waiting if len(parts) > 1 and not parts[0].rstrip().endswith("?"))
        new = {part for part, count in counts.items() if count >= enough or part in found}
        found |= new
        waiting = [parts[1:] for parts in waiting if parts and parts[0] in new]
    return found


def _without(text: str, instructions: set[str]) -> str:
    rest = text
    for part in _sentences(text):
        if part not in instructions or len(part) == len(rest):
            break
        rest = rest[len(part) :]
    return rest
