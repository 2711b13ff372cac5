"""Rollouts from prefixes of reference chains: the share that reaches the right answer.

All rollouts from a prefix are one question to the engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from atomthink_plugin.api import AtomThinkError, Failure, Question
from atomthink_plugin.runtime.progress import RunProgress
from atomthink_plugin.runtime.runner import Runner
from atomthink_plugin.tasks.capability.records import StepRecord
from atomthink_plugin.training.label.rollouts import left_no_room, rollout_search
from atomthink_plugin.training.records import QuestionRecord, engine_question, read_images


class Prefix(QuestionRecord):
    """The first steps of a reference chain.

    Attributes:
        id: The chain's id and the number of steps. Rollouts from different prefixes have different seeds.
        chain: The chain's id.
        answer: The right answer.
        history: The given steps. The control prefix has none.
    """

    chain: str
    answer: str
    history: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PrefixQuestions:
    """Prefixes as questions for a `Runner`; a question's images are read when it is asked.

    Attributes:
        prefixes: The prefixes.
        folder: The folder that their images are relative to.
    """

    prefixes: Sequence[Prefix]
    folder: Path

    def __len__(self) -> int:
        """Returns the number of prefixes."""
        return len(self.prefixes)

    def __getitem__(self, index: int) -> Question:
        """Returns a question; raises QuestionError if an image cannot be read."""
        prefix = self.prefixes[index]
        question = engine_question(prefix.id, prefix.question, read_images(prefix, self.folder))
        return replace(question, history=prefix.history)


@dataclass(frozen=True, slots=True)
class PrefixResult:
    """The result of the rollouts from one prefix.

    Attributes:
        share: The share of rollouts with the right answer, None if the question failed.
        reason: Why it failed.
        concluded: Whether the prefix itself states the answer, so that nothing was sampled.
    """

    share: float | None
    reason: str = ""
    concluded: bool = False


PrefixResults = Mapping[tuple[str, int], PrefixResult]
"""The results by chain and number of given steps."""


def prefix_questions(records: Sequence[StepRecord], folder: Path) -> PrefixQuestions:
    """Returns the prefixes that the records need, each once: with and without the last step, and the control.

    Args:
        records: The records.
        folder: The folder that their images are relative to.

    Raises:
        AtomThinkError: Records of one chain contradict each other.
    """
    needed: dict[str, Prefix] = {}
    for record in records:
        for history in ((), record.history[:-1], record.history):
            prefix = Prefix(
                id=f"{record.chain}/{len(history)}",
                question=record.question,
                images=record.images,
                chain=record.chain,
                answer=record.answer,
                history=history,
            )
            if needed.setdefault(prefix.id, prefix) != prefix:
                raise AtomThinkError(
                    f"record {record.id!r}: another record of chain {record.chain!r} has a different question, answer "
                    f"or beginning ({len(history)} steps). Give the chains different ids"
                )
    return PrefixQuestions(list(needed.values()), folder)


def measure_prefixes(questions: PrefixQuestions, runner: Runner, rollouts: int) -> PrefixResults:
    """Samples rollouts from each prefix and counts those with the right answer.

    Each rollout is a path of its own with its own seed, so rollouts are independent.

    Args:
        questions: The prefixes.
        runner: The policy and its settings. Its search is not used.
        rollouts: Rollouts per prefix.
    """
    answers = {prefix.id: prefix.answer for prefix in questions.prefixes}
    sampling = replace(runner, search=rollout_search(rollouts, answers))
    with RunProgress(len(questions), f"{rollouts} rollouts", unit="prefixes") as progress:
        results = sampling.run(questions, progress.finished)
    measured = {}
    for prefix, result in zip(questions.prefixes, results, strict=True):
        if isinstance(result, Failure):
            found = PrefixResult(None, result.reason)
        elif left_no_room(result, len(prefix.history)):
            found = PrefixResult(None, f"prefix {prefix.id}: the context has no room for a step after the given ones")
        else:
            concluded = result.answer is not None and len(result.steps) == len(prefix.history)
            found = PrefixResult(result.value, concluded=concluded)
        measured[prefix.chain, len(prefix.history)] = found
    return measured
