"""Chains to be labelled from the policy itself: what a process reward model will be asked about."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from atomthink_plugin.api import AtomThinkError, Failure, Limits, Message, Question, QuestionError, Result
from atomthink_plugin.runtime.progress import RunProgress
from atomthink_plugin.runtime.thinker import Thinker
from atomthink_plugin.training.chains import Chain, Reject, Text, faults, numbered_lines, read_image
from atomthink_plugin.training.labels.rollouts import Spent


class Asked(BaseModel):
    """A question with its answer; other fields, steps among them, are left alone.

    Attributes:
        id: Unique in its file.
        question: As it is asked, options included.
        images: Files, relative to the questions' own.
        answer: The right answer.
    """

    model_config = ConfigDict(frozen=True, coerce_numbers_to_str=True)

    id: Text
    question: Text
    images: tuple[str, ...] = ()
    answer: Text


@dataclass(frozen=True, slots=True)
class Questions:
    """What a file asks: questions and rejects together are all its records.

    Attributes:
        folder: What the questions' images are relative to.
        asked: The usable ones.
        rejects: The others.
    """

    folder: Path
    asked: Sequence[Asked]
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


def read_questions(file: Path) -> Questions:
    """Returns the questions of a JSONL file.

    Raises:
        AtomThinkError: There is no such file, or no question in it.
    """
    asked: dict[str, Asked] = {}
    rejects: list[Reject] = []
    for where, line in numbered_lines(file):
        try:
            record = json.loads(line)
            question = Asked.model_validate(record)
        except json.JSONDecodeError as error:
            rejects.append(Reject(where, f"no JSON: {error}", line))
            continue
        except ValidationError as error:
            rejects.append(Reject(where, faults(error), record))
            continue
        if question.id in asked:
            rejects.append(Reject(where, f"the id {question.id!r} occurred before", record))
            continue
        asked[question.id] = question
    if not asked:
        first = f"; the first: {rejects[0].where}: {rejects[0].reason}" if rejects else ""
        raise AtomThinkError(f"{file} has no question that can be used ({len(rejects)} rejected{first})")
    return Questions(file.parent, list(asked.values()), rejects)


def sample(questions: Questions, thinker: Thinker, n: int, temperature: float | None = None) -> Sampled:
    """Samples `n` chains of each question; sample `i` of question `q` has the id `q/i`.

    Args:
        questions: What is asked.
        thinker: The policy, its settings and the journal; its search follows one path.
        n: Chains per question.
        temperature: Of all samples; None for the thinker's own.
    """
    spent: list[Spent] = []
    samples = _Samples(questions, n, temperature)
    with RunProgress(len(samples), "chains") as progress:

        def finished(result: Result, asked: bool) -> None:
            spent.append(Spent(1, int(not asked), result.usage))
            progress.finished(result, asked)

        results = thinker.run(samples, finished)
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
    """All samples as questions to the thinker, each built when it is its turn."""

    questions: Questions
    n: int
    temperature: float | None

    def __len__(self) -> int:
        return len(self.questions.asked) * self.n

    def of(self, index: int) -> tuple[Asked, str]:
        """Returns the question of a sample, and the sample's name."""
        asked = self.questions.asked[index // self.n]
        return asked, f"{asked.id}/{index % self.n}"

    def __getitem__(self, index: int) -> Question:
        asked, name = self.of(index)
        try:
            pictures = [read_image(str(self.questions.folder / image)) for image in asked.images]
        except (OSError, SyntaxError, ValueError) as error:  # Pillow raises any of them for broken files
            raise QuestionError(f"sample {name}: {type(error).__name__}: {error}") from None
        turn = Message("user", (*pictures, asked.question))
        return Question(name, (turn,), limits=Limits(temperature=self.temperature))
