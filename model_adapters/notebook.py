"""Thinking about single questions from Python: in a notebook, a script or a program of one's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from PIL import Image

from atomthink_plugin.api import AtomThinkError, Message, Outcome, Question, QuestionError
from atomthink_plugin.inference.image_input import read_image, upright
from atomthink_plugin.named_models import plan_for
from atomthink_plugin.report.outcome_html import outcome_html
from atomthink_plugin.runtime.build import build, open_journal
from atomthink_plugin.runtime.event_loop import run
from atomthink_plugin.runtime.runner import OnNode, Runner


@dataclass(frozen=True, slots=True, repr=False)
class NotebookOutcome(Outcome):
    """An outcome that a notebook draws: the chosen steps, the search tree and the costs.

    Attributes:
        question: The question.
        search: Name and arguments of the search.
    """

    question: Question = field(kw_only=True)
    search: Mapping[str, Any] = field(kw_only=True)

    def __repr__(self) -> str:
        """Returns one line: the whole tree would fill the screen."""
        return f"NotebookOutcome(answer={self.answer!r}, {len(self.steps)} steps, {len(self.nodes)} nodes)"

    def _repr_html_(self) -> str:
        """Returns what notebooks show."""
        return outcome_html(self, self.question, self.search)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model, its process reward model and a search, ready for single questions.

    Attributes:
        runner: Answers the questions.
        search: Name and arguments of the search.
    """

    runner: Runner
    search: Mapping[str, Any]

    async def think(self, question: Question, on_node: OnNode | None = None) -> NotebookOutcome:
        """Answers one question, see `make_question`.

        Args:
            question: The question.
            on_node: Called with each new node of the tree, and again when it is scored. Not called for a question
                that is in the journal.

        Raises:
            QuestionError: The question cannot be answered.
        """
        outcome = await self.runner.think(question, on_node)
        values = {known.name: getattr(outcome, known.name) for known in fields(Outcome)}
        return NotebookOutcome(**values, question=question, search=self.search)


def load(name: str, **arguments: Any) -> LoadedModel:
    """Loads a model, its process reward model and a search.

    Args:
        name: A name that `lmms-eval --model` takes: `atomthink_tiny`, `atomthink_hf`, `atomthink_qwen_vl`, ...
        **arguments: The arguments of `--model_args`: `thinking`, `search`, `pretrained`, `prm`, ... Answers are kept on
            disk, and read from there the next time, only with `journal=FOLDER`.

    Returns:
        The loaded model, for `ask` and for its own `think`.

    Raises:
        AtomThinkError: There is no such model, or an argument or a checkpoint cannot be used.

    Examples:
        >>> model = load("atomthink_tiny", thinking="slow", search="beam")
    """
    planned = plan_for(name, arguments)
    if "max_pixels" in planned.arguments.model_fields_set:
        raise AtomThinkError(
            f"`max_pixels={planned.arguments.max_pixels}`: scale the images down before you ask about them"
        )
    runner = build(planned)
    if planned.arguments.journal is not None:
        runner = replace(runner, journal=open_journal(planned, runner, name.removeprefix("atomthink_")))
    return LoadedModel(runner, planned.identity["search"])


def ask(
    model: LoadedModel, text: str, *images: str | Path | Image.Image, choices: Sequence[str] = ()
) -> NotebookOutcome:
    """Thinks about one question; works where an event loop runs, as in a notebook, and where none does.

    Args:
        model: What `load` returned.
        text: The question.
        *images: Files or PIL images, shown before the text.
        choices: The options of a multiple-choice question.

    Returns:
        The answer, the steps to it with their scores, and the whole tree. As the last value of a notebook's cell, it
        is drawn.

    Raises:
        QuestionError: The question cannot be asked.

    Examples:
        >>> outcome = ask(load("atomthink_tiny"), "How many bars are there?", "chart.png")  # doctest: +SKIP
        >>> outcome.answer, outcome.steps, outcome.scores  # doctest: +SKIP
    """
    return run(model.think(make_question(text, *images, choices=choices)))


def make_question(text: str, *images: str | Path | Image.Image, choices: Sequence[str] = ()) -> Question:
    """Returns a question, for `await model.think(question, on_node=...)`.

    Its id is a digest of all that is asked, so that the same question gets the same answer in every run.

    Args:
        text: The question.
        *images: Files or PIL images, shown before the text.
        choices: The options; they are added to the text as lines `A. ...`, `B. ...`.

    Raises:
        QuestionError: The text is empty, an image cannot be read, or the choices cannot be asked.
    """
    if not text.strip():
        raise QuestionError("`text` is empty: pass the question")
    options = tuple(choice.strip() for choice in choices)
    if isinstance(choices, str) or len(options) == 1 or len(options) > len(ascii_uppercase) or not all(options):
        raise QuestionError(f"`choices={choices!r}`: pass 2 to {len(ascii_uppercase)} texts, or none")
    lines = [text, *(f"{letter}. {option}" for letter, option in zip(ascii_uppercase, options, strict=False))]
    question = Question("", (Message("user", (*map(_image, images), "\n".join(lines))),), options)
    return replace(question, id=f"question/{question.key.lstrip('#')}")


def _image(given: str | Path | Image.Image) -> Image.Image:
    try:
        if isinstance(given, Image.Image):
            return upright(given).convert("RGB")
        if isinstance(given, str | Path):
            return read_image(Path(given).expanduser())
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise QuestionError(f"the image {given} cannot be read: {error}") from error
    raise QuestionError(f"an image is of type {type(given).__name__}: pass a file name or a PIL image")
