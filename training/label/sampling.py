"""Chains to be labelled from the policy itself: what a process reward model will be asked about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from atomthink_plugin.api import Failure, Limits, Question, Result, Usage
from atomthink_plugin.runtime.progress import RunProgress
from atomthink_plugin.runtime.runner import Runner
from atomthink_plugin.training.label.rollouts import Spent
from atomthink_plugin.training.records import (
    Chain,
    QuestionRecord,
    Reject,
    Text,
    engine_question,
    nothing_usable,
    read_images,
    read_records,
)


class Answered(QuestionRecord):
    """A question with its answer.

    Attributes:
        answer: The right one.
    """

    answer: Text


@dataclass(frozen=True, slots=True)
class QuestionFile:
    """What a file asks: questions and rejects together are all its records.

    Attributes:
        folder: What the questions' images are relative to.
        asked: The usable ones.
        rejects: The others.
    """

    folder: Path
    asked: Sequence[Answered]
    rejects: Sequence[Reject] = ()


@dataclass(frozen=True, slots=True)
class Sampled:
    """What sampling came to: chains and rejects together are all samples.

    Attributes:
        chains: The chains, without labels.
        rejects: Samples without any step, or that could not be drawn.
        spent: What it cost.
    """

    chains: Sequence[Chain]
    rejects: Sequence[Reject]
    spent: Spent


def read_questions(file: Path) -> QuestionFile:
    """Returns the questions of a JSONL file.

    Raises:
        AtomThinkError: There is no such file, or no question in it.
    """
    found, rejects = read_records(file, Answered)
    if not found:
        raise nothing_usable(file, "question", rejects)
    return QuestionFile(file.parent, found, rejects)


def sample(questions: QuestionFile, runner: Runner, n: int, temperature: float | None = None) -> Sampled:
    """Samples `n` chains of each question; sample `i` of question `q` has the id `q/i`.

    Args:
        questions: What is asked.
        runner: The policy, its settings and the journal; its search follows one path.
        n: Chains per question.
        temperature: Of all samples; None for the runner's own.
    """
    spent: list[Spent] = []
    samples = _Samples(questions, n, temperature)
    with RunProgress(len(samples), "chains") as progress:

        def finished(result: Result, cost: Usage | None) -> None:
            spent.append(Spent(1, int(cost is None), result.usage))
            progress.finished(result, cost)

        results = runner.run(samples, finished)
    chains: list[Chain] = []
    rejects: list[Reject] = []
    for index, result in enumerate(results):
        question, name = samples.of(index)
        if isinstance(result, Failure) or not result.steps:
            reason = result.reason if isinstance(result, Failure) else f"no valid step in it ({result.stopped})"
            rejects.append(Reject(f"sample {name!r}", reason, question.model_dump()))
        else:
            chains.append(Chain(**question.model_dump(exclude={"id"}), id=name, steps=result.steps))
    return Sampled(chains, rejects, sum(spent, Spent()))


@dataclass(frozen=True, slots=True)
class _Samples:
    """All samples as questions to the runner, each built when it is its turn."""

    questions: QuestionFile
    n: int
    temperature: float | None

    def __len__(self) -> int:
        return len(self.questions.asked) * self.n

    def of(self, index: int) -> tuple[Answered, str]:
        """Returns the question of a sample, and the sample's name."""
        question = self.questions.asked[index // self.n]
        return question, f"{question.id}/{index % self.n}"

    def __getitem__(self, index: int) -> Question:
        question, name = self.of(index)
        built = engine_question(name, question.question, read_images(question, self.questions.folder))
        return replace(built, limits=Limits(temperature=self.temperature))
