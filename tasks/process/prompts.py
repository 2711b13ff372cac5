"""How a model is asked about the steps of a solution."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from PIL import Image
from pydantic import BaseModel, ConfigDict

from atomthink_plugin.inference.image_input import read_image
from atomthink_plugin.tasks.process.documents import Document


class Shot(BaseModel):
    """A solved example: what the user asks, and the reply."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    user: str
    assistant: str


class CriticPrompt(BaseModel):
    """The wording of a request, from prompts.yaml.

    Attributes:
        system: Text of the system turn; None sends none.
        shots: Solved examples before the request.
        drop: What a step's own number looks like, with `{k}`; it is removed. None removes nothing.
        step: Text of a step, with `{k}` and `{step}`.
        between: Text between two steps.
        first: Number of the first step.
        user: Text of the request, with `{question}`, `{steps}` and `{count}`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    system: str | None
    shots: tuple[Shot, ...]
    drop: str | None
    step: str
    between: str
    first: int
    user: str

    def request(self, question: str, steps: Sequence[str]) -> str:
        """Returns the text of the request about a solution."""
        shown = self.between.join(self._step(number, step) for number, step in enumerate(steps, self.first))
        return _filled(self.user, question=question, steps=shown, count=str(len(steps)))

    def _step(self, number: int, step: str) -> str:
        own = re.match(_filled(self.drop, k=str(number)), step) if self.drop is not None else None
        step = step[own.end() :] if own else step
        return _filled(self.step, k=str(number), step=step)


def _filled(template: str, **values: str) -> str:
    """Fills placeholders in one pass: values and other braces, as in JSON and LaTeX, stay as they are."""
    return re.sub("{(" + "|".join(values) + ")}", lambda found: values[found[1]], template)


@cache
def critic_prompts() -> dict[str, CriticPrompt]:
    """Returns all prompts by name."""
    read = yaml.safe_load(Path(__file__).with_name("prompts.yaml").read_text(encoding="utf-8"))
    return {name: CriticPrompt.model_validate(one) for name, one in read.items()}


def doc_to_visual(doc: Document) -> list[Image.Image]:
    """Returns the question's images."""
    return [read_image(Path(name)) for name in doc["images"]]


def doc_to_text(doc: Document, lmms_eval_specific_kwargs: Mapping[str, Any]) -> str:
    """Returns the whole request as one text, for models that take no turns."""
    prompt = critic_prompts()[lmms_eval_specific_kwargs["prompt"]]
    shots = [text for shot in prompt.shots for text in (shot.user, shot.assistant)]
    parts = [prompt.system or "", *shots, prompt.request(doc["question"], doc["steps"])]
    return "\n\n".join(part.strip("\n") for part in parts if part)


def doc_to_messages(doc: Document, lmms_eval_specific_kwargs: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the request as turns: the system turn and the examples, if there are any, then images and text."""
    prompt = critic_prompts()[lmms_eval_specific_kwargs["prompt"]]
    turns = [] if prompt.system is None else [("system", prompt.system)]
    for shot in prompt.shots:
        turns += [("user", shot.user), ("assistant", shot.assistant)]
    images = [{"type": "image", "url": image} for image in doc_to_visual(doc)]
    request = {"type": "text", "text": prompt.request(doc["question"], doc["steps"])}
    given = [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in turns]
    return [*given, {"role": "user", "content": [*images, request]}]


def doc_to_target(doc: Document) -> str:
    """Returns the labels for the samples file: 1 right, 0 wrong, ? unknown."""
    return "".join("?" if label is None else str(int(label)) for label in doc["labels"])
