"""Rollouts from prefixes of reference chains: how many of them reach the right answer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from atomthink_plugin.answers import count_equivalent
from atomthink_plugin.api import AtomThinkError, Choice, Failure, Message, Question, QuestionError, Search, SearchTree
from atomthink_plugin.inference.image_input import read_image
from atomthink_plugin.runtime.progress import RunProgress
from atomthink_plugin.runtime.runner import Runner
from atomthink_plugin.tasks.capability.records import StepRecord


@dataclass(frozen=True, slots=True)
class Prefix:
    """The first steps of a reference chain; the control has none.

    Attributes:
        chain: The chain's id.
        question: As it is asked.
        images: Files.
        answer: The right answer.
        history: The steps that are given.
    """

    chain: str
    question: str
    images: tuple[Path, ...]
    answer: str
    history: tuple[str, ...]

    @property
    def id(self) -> str:
        """Unique among the prefixes of a set: every one has seeds of its own."""
        return f"{self.chain}/{len(self.history)}"


@dataclass(frozen=True, slots=True)
class PrefixResult:
    """What the rollouts from one prefix came to.

    Attributes:
        share: Of the rollouts, those with the right answer; None where the prefix could not be asked.
        reason: Why it could not.
        concluded: Whether the prefix itself states the answer, so that nothing was sampled.
    """

    share: float | None
    reason: str = ""
    concluded: bool = False


Results = Mapping[tuple[str, int], PrefixResult]
"""By chain and number of steps that are given."""


def prefixes(records: Sequence[StepRecord], folder: Path) -> list[Prefix]:
    """Returns all prefixes that the records need, each once: their own, those one step shorter, and the controls.

    Args:
        records: The set.
        folder: What their images are relative to.

    Raises:
        AtomThinkError: Records of one chain contradict each other.
    """
    needed: dict[str, Prefix] = {}
    for record in records:
        images = tuple(folder / image for image in record.images)
        for history in ((), record.history[:-1], record.history):
            prefix = Prefix(record.chain, record.question, images, record.answer, history)
            if needed.setdefault(prefix.id, prefix) != prefix:
                raise AtomThinkError(
                    f"record {record.id}: chain {record.chain!r} has other records with another question, answer or "
                    f"first {len(history)} steps; give it an id of its own"
                )
    return list(needed.values())


class AsQuestions:
    """Prefixes as questions, each built when it is its turn."""

    def __init__(self, prefixes: Sequence[Prefix]) -> None:
        self._prefixes = prefixes

    def __len__(self) -> int:
        """Returns how many there are."""
        return len(self._prefixes)

    def __getitem__(self, index: int) -> Question:
        """Builds one; raises QuestionError if its images cannot be read."""
        prefix = self._prefixes[index]
        try:
            images = [read_image(file) for file in prefix.images]
        except (OSError, SyntaxError) as error:  # Pillow raises either for broken files
            raise QuestionError(f"prefix {prefix.id}: {error}") from None
        turn = Message("user", (*images, prefix.question))
        return Question(prefix.id, (turn,), history=prefix.history)


def measure(prefixes: Sequence[Prefix], runner: Runner, m: int) -> Results:
    """Counts the right ones of `m` rollouts from each prefix.

    A rollout is a path of its own from the prefix on, with seeds of its own: nothing that one of them writes is
    seen by another.

    Args:
        prefixes: What is asked.
        runner: The policy and its settings; its search is not used.
        m: Rollouts per prefix.
    """
    answer_of = {prefix.id: prefix.answer for prefix in prefixes}
    right: dict[str, int] = {}
    rolling = replace(runner, search=_collecting(m, answer_of, right))
    with RunProgress(len(prefixes), f"{m} rollouts") as progress:
        results = rolling.run(AsQuestions(prefixes), progress.finished)
    measured = {}
    for prefix, result in zip(prefixes, results, strict=True):
        if isinstance(result, Failure):
            found = PrefixResult(None, result.reason)
        else:
            concluded = result.answer is not None and len(result.steps) == len(prefix.history)
            found = PrefixResult(right[prefix.id] / m, concluded=concluded)
        measured[prefix.chain, len(prefix.history)] = found
    return measured


def _collecting(m: int, answer_of: Mapping[str, str], right: dict[str, int]) -> Search:
    async def search(tree: SearchTree) -> Choice:
        paths = await tree.rollouts(m)
        question = tree.root.question
        if tree.why(tree.root) == "length":
            raise QuestionError(f"prefix {question.id}: its history leaves no room for a step")
        answers = [path.answer for path in paths]
        right[question.id] = await asyncio.to_thread(count_equivalent, answers, answer_of[question.id])
        return Choice(paths[0], right[question.id] / m, tree.why(paths[0]))

    return search
