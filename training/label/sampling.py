"""Chains to be labelled from the policy itself: what a process reward model will be asked about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from atomthink_plugin.api import Failure, Limits, Question, Result, Usage
from atomthink_plugin.runtime.progress import RunProgress
from atomthink_plugin.runtime.runner import Runner
from atomthink_plugin.training.label.rollouts import Spent
from atomthink_plugin.training.records import AnsweredQuestion, Chain, RecordFile, Reject, read_records


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


def read_questions(file: Path) -> RecordFile[AnsweredQuestion]:
    """Returns the questions of a JSONL file; those without an answer are rejects.

    Raises:
        AtomThinkError: There is no such file, or no question in it.
    """
    return read_records(file, AnsweredQuestion, required=("answer",), check_images=False)


def sample(
    questions: RecordFile[AnsweredQuestion], runner: Runner, n: int, temperature: float | None = None
) -> Sampled:
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
            common = question.model_dump(include={"question", "images", "answer"})
            chains.append(Chain(**common, id=name, steps=result.steps))
    return Sampled(chains, rejects, sum(spent, Spent()))


@dataclass(frozen=True, slots=True)
class _Samples:
    """All samples as questions to the runner, each built when it is its turn."""

    questions: RecordFile[AnsweredQuestion]
    n: int
    temperature: float | None

    def __len__(self) -> int:
        return len(self.questions.records) * self.n

    def of(self, index: int) -> tuple[AnsweredQuestion, str]:
        """Returns the question of a sample, and the sample's name."""
        question = self.questions.records[index // self.n]
        return question, f"{question.id}/{index % self.n}"

    def __getitem__(self, index: int) -> Question:
        question, name = self.of(index)
        return replace(self.questions.question(question), id=name, limits=Limits(temperature=self.temperature))
