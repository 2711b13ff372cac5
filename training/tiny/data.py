"""Training rows: figures drawn once into a pool, fresh questions about them, tokens with a loss mask."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any, Final, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from atomthink_plugin.api import Message, Path, Question
from atomthink_plugin.formats import SEPARATOR, Continue, Cot, Direct, Format
from atomthink_plugin.tasks.demo.figures import draw
from atomthink_plugin.tasks.demo.questions import DemoQuestion, Figure, ask, draw_figure
from atomthink_plugin.training.tiny.model import IMAGE_SIDE, IMAGE_TOKENS
from atomthink_plugin.training.tiny.tokenizer import IMAGE

IGNORED: Final = -100
Mode = Literal["direct", "cot", "continue"]
Batch = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Row:
    """One training sequence.

    Attributes:
        ids: Prompt and reply.
        labels: The ids that are learned, `IGNORED` elsewhere.
        pixels: The figure as the vision tower gets it, before scaling: uint8 [3, side, side].
    """

    ids: list[int]
    labels: list[int]
    pixels: Tensor | None = None


class Codec:
    """Questions and steps to token ids, through the engine's own prompt formats."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer = tokenizer
        self.end: int = tokenizer.eos_token_id
        self._image = tokenizer.get_vocab()[IMAGE]
        self._formats: dict[Mode, Format] = {"direct": Direct(), "cot": Cot(), "continue": Continue()}
        self.encode = cache(lambda text: tuple(tokenizer(text, add_special_tokens=False).input_ids))

    def prompt(self, text: str, mode: Mode = "continue") -> list[int]:
        """Returns the prompt that asks `text` about one figure, the image's tokens in their place."""
        turns = (Message("user", (_PLACEHOLDER, text)),)
        messages = self._formats[mode].render(Path(Question("", turns))).messages
        chat: list[Any] = [{"role": m.role, "content": [_part(part) for part in m.parts]} for m in messages]
        rendered = self.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        ids: list[int] = []
        for token in self.tokenizer(rendered, add_special_tokens=False).input_ids:
            ids += [token] * (IMAGE_TOKENS if token == self._image else 1)
        return ids

    def steps(self, steps: Sequence[str]) -> list[list[int]]:
        """Returns each step's ids with what ends it: a blank line, or end of sequence for the last."""
        encoded = [list(self.encode(step + SEPARATOR)) for step in steps[:-1]]
        return [*encoded, [*self.encode(steps[-1]), self.end]]

    def reply(self, question: DemoQuestion, mode: Mode) -> list[int]:
        """Returns the gold reply in one of the three modes."""
        if mode == "continue":
            return [token for step in self.steps(question.steps) for token in step]
        text = question.cot if mode == "cot" else question.direct
        return [*self.encode(text), self.end]


_PLACEHOLDER: Final = Image.new("RGB", (1, 1))


def _part(part: str | Image.Image) -> dict[str, str]:
    return {"type": "text", "text": part} if isinstance(part, str) else {"type": "image"}


def pixels_of(figure: Figure) -> Tensor:
    """Returns a figure resized as the image processor does it: uint8 [3, side, side]."""
    image = draw(figure).resize((IMAGE_SIDE, IMAGE_SIDE), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)


class Pool:
    """Figures that are drawn once and asked about often; the questions are always new."""

    def __init__(self, size: int, seed: int) -> None:
        self._rng = random.Random(f"pool {seed}")
        self._figures = [draw_figure(self._rng) for _ in range(size)]
        self._pixels = torch.stack([pixels_of(figure) for figure in self._figures])

    def figure(self, rng: random.Random) -> tuple[Figure, Tensor]:
        """Returns a random figure and its pixels."""
        index = rng.randrange(len(self._figures))
        return self._figures[index], self._pixels[index]

    def questions(self) -> Iterator[tuple[DemoQuestion, Tensor]]:
        """Yields questions that are not held out, with their pixels, without end."""
        while True:
            figure, pixels = self.figure(self._rng)
            question = ask(figure, self._rng)
            if not question.held_out:
                yield question, pixels


def naming_rows(codec: Codec, pool: Pool) -> Iterator[Row]:
    """Yields rows that name every item of a figure with its value, with the loss on the values' digits alone."""
    rng = random.Random("names")
    prompt = codec.prompt("Read all.")
    for question, pixels in pool.questions():
        items = rng.sample(question.figure.items, len(question.figure.items))
        ids, labels = [], []
        for name, value in items:
            head, digits, dot = (codec.encode(text) for text in (f"{name} = ", str(value), "."))
            ids += [*head, *digits, *dot]
            labels += [*[IGNORED] * len(head), *digits, *[IGNORED] * len(dot)]
        yield Row(prompt + ids, [IGNORED] * len(prompt) + labels, pixels)


def reading_rows(codec: Codec, pool: Pool) -> Iterator[Row]:
    """Yields rows that begin to solve: the readings a question asks for, in its order."""
    for question, pixels in pool.questions():
        readings = [step for step, action in zip(question.steps, question.plan(), strict=True) if action.verb == "read"]
        steps = codec.steps([*readings, ""])[:-1]
        yield row_of(codec.prompt(question.text), [token for step in steps for token in step], pixels)


def solving_rows(codec: Codec, pool: Pool) -> Iterator[Row]:
    """Yields rows that solve: nine of ten in atomic steps, the others directly or in one pass."""
    rng = random.Random("modes")
    for question, pixels in pool.questions():
        mode: Mode = rng.choices(("direct", "cot", "continue"), (5, 5, 90))[0]
        yield row_of(codec.prompt(question.text, mode), codec.reply(question, mode), pixels)


def row_of(prompt: list[int], reply: list[int], pixels: Tensor) -> Row:
    """Returns a row whose loss is on the reply."""
    return Row(prompt + reply, [IGNORED] * len(prompt) + reply, pixels)


def collate(rows: Sequence[Row], pad: int) -> Batch:
    """Returns rows as one batch, padded on the right."""
    width = max(len(row.ids) for row in rows)
    batch = {
        "input_ids": torch.tensor([row.ids + [pad] * (width - len(row.ids)) for row in rows]),
        "labels": torch.tensor([row.labels + [IGNORED] * (width - len(row.labels)) for row in rows]),
        "attention_mask": torch.tensor([[1] * len(r.ids) + [0] * (width - len(r.ids)) for r in rows]),
    }
    pictures = [row.pixels for row in rows if row.pixels is not None]
    if pictures:
        batch["pixel_values"] = scaled(torch.stack(pictures))
    return batch


def scaled(pixels: Tensor) -> Tensor:
    """Returns uint8 pixels as the image processor scales them: white paper is 0, black is -2."""
    return pixels.float() / 127.5 - 2


def batches(rows: Iterator[Row], size: int, pad: int) -> Iterator[Batch]:
    """Yields batches of `size` rows without end."""
    while True:
        yield collate(list(islice(rows, size)), pad)
