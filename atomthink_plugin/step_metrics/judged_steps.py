"""What is known about the steps of a solution, and what a critic says about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class StepLabels:
    """The labels of a solution.

    Attributes:
        question: Identity of the question: solutions of one question have the same.
        labels: Whether each step is right; None if that is not known.
        subset: The part of the set that it belongs to: a source, a task, a class of errors. Empty if there is none.
        right: Whether the final answer is right; None if that is not known.
        kinds: The kind of error of each wrong step, None for other steps and where it is not known. Empty if the set
            names no kinds.
    """

    question: str
    labels: tuple[bool | None, ...]
    subset: str = ""
    right: bool | None = None
    kinds: tuple[str | None, ...] = ()

    @property
    def first_error(self) -> int | None:
        """Index of the first step that is labelled wrong."""
        return next((index for index, label in enumerate(self.labels) if label is False), None)

    @property
    def first_error_known(self) -> bool:
        """Whether every step before the first wrong one has a label; without a wrong one, every step."""
        return None not in self.labels[: self.first_error]


@dataclass(frozen=True, slots=True)
class Threshold:
    """Which scores mean that a step is right.

    Attributes:
        value: The threshold.
        strict: Whether a score at the threshold means wrong.
    """

    value: float = 0.5
    strict: bool = False

    def is_right(self, score: float) -> bool:
        """Returns whether a step with this score is judged right."""
        return score > self.value if self.strict else score >= self.value


@dataclass(frozen=True, slots=True)
class JudgedSteps:
    """The labels of a solution, and a critic's verdict on each step.

    Attributes:
        truth: The labels.
        verdicts: Whether the critic says that the step is right; None if it says nothing about the step. Such a step
            counts as neither class.
        scores: The scores that the verdicts come from, from 0 to 1; None if the critic gives verdicts alone.
    """

    truth: StepLabels
    verdicts: tuple[bool | None, ...]
    scores: tuple[float, ...] | None = None

    @classmethod
    def from_scores(cls, truth: StepLabels, scores: Sequence[float], threshold: Threshold) -> Self:
        """Judges steps by their scores."""
        return cls(truth, tuple(map(threshold.is_right, scores)), tuple(scores))

    @property
    def valid(self) -> bool:
        """Whether the critic says anything about any step."""
        return any(verdict is not None for verdict in self.verdicts)

    @property
    def first_judged_wrong(self) -> int | None:
        """Index of the first step that is judged wrong."""
        return next((index for index, verdict in enumerate(self.verdicts) if verdict is False), None)

    @property
    def finds_first_error(self) -> bool:
        """Whether the first step that is judged wrong is the first wrong one, or all are right and judged right."""
        if self.truth.first_error is None:
            return all(self.verdicts)
        return self.first_judged_wrong == self.truth.first_error

    def scored_labels(self) -> list[tuple[float, bool]]:
        """Returns the score and the label of every labelled step; empty if the critic gives no scores."""
        pairs = zip(self.scores or (), self.truth.labels, strict=self.scores is not None)
        return [(score, label) for score, label in pairs if label is not None]
