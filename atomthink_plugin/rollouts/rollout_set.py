"""Candidates of one question, as somebody else's run wrote them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from atomthink_plugin.answers import final_answer
from atomthink_plugin.api import Message, Question
from atomthink_plugin.inference.image_input import Picture, read_image

LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""The letters of options in order."""

_DIRECT: Final = 60
"""The most characters of a reply that is an answer as a whole, such as `B` or `12 cm`."""


@dataclass(frozen=True, slots=True)
class RolloutCandidate:
    """One reply to a question.

    Attributes:
        text: The whole reply.
        steps: Its steps; None if the file has none, so that the text is split.
        answer: Its final answer as the file has it; None if unknown.
        correct: Whether the file says that it is right; None if unknown.
        tokens: How many tokens were generated; None if unknown.
        logprob: Sum of the log-probabilities of its tokens; None if unknown.
        thought: Text of a thinking model before the reply.
        scores: Step scores that the file already has, by the name of the PRM.
        cut: Whether the file may have lost the end of the text: its spreadsheet cell is full.
    """

    text: str
    steps: tuple[str, ...] | None = None
    answer: str | None = None
    correct: bool | None = None
    tokens: int | None = None
    logprob: float | None = None
    thought: str = ""
    scores: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    cut: bool = False

    def stated_answer(self) -> str | None:
        """Returns the answer of the file, else the one that the text states, None if there is none.

        A text of one short line that states none is an answer as a whole.
        """
        if self.answer is not None:
            return self.answer
        line = self.text.strip()
        direct = line if line and "\n" not in line and len(line) <= _DIRECT else None
        return final_answer(self.text) or direct


@dataclass(frozen=True, slots=True)
class RolloutSet:
    """A question and its candidates, in the order in which they were sampled.

    Attributes:
        id: The question's id in its file, with the name of the data set if ids are numbers. `read_rollouts` gives a
            question without an id a digest of its text and images.
        question: Its text.
        pictures: Its images in reading order.
        choices: The texts of its options in order.
        gold: The right answer; None if unknown. It never reaches a scorer: `engine_question` leaves it out.
        subset: The part of the set that it belongs to; empty if there is none.
        policy: The model that generated the candidates; empty if unknown.
        record: The benchmark's own fields of the question, for the judge of that benchmark.
        benchmark: The benchmark whose rules judge its candidates, if the file says so.
        candidates: The candidates.
    """

    id: str
    question: str
    candidates: tuple[RolloutCandidate, ...]
    pictures: tuple[Picture, ...] = ()
    choices: tuple[str, ...] = ()
    gold: str | None = None
    subset: str = ""
    policy: str = ""
    record: Mapping[str, object] = field(default_factory=dict)
    benchmark: str = ""

    def engine_question(self) -> Question:
        """Returns the question for a scorer: with its images and options, without the right answer."""
        images = [read_image(picture) for picture in self.pictures]
        shown = all(
            _shows(self.question, letter, choice) for letter, choice in zip(LETTERS, self.choices, strict=False)
        )
        text = self.question if shown else with_options(self.question, self.choices)
        return Question(self.id, (Message("user", (*images, text)),), self.choices)


def with_options(question: str, options: Sequence[str]) -> str:
    """Returns a question with its options in the form of MATH-Vision."""
    listed = "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))
    return f"{question.strip()}\nChoices: {listed}" if options else question.strip()


def _shows(question: str, letter: str, option: str) -> bool:
    """Whether a question has an option after its letter, or in a line of its own."""
    text = re.escape(option.strip())
    return bool(re.search(rf"\b{letter}\b[.):\s]*{text}|^\s*{text}\s*$", question, re.MULTILINE))
