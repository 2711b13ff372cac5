"""The embedded model's training data as files: figures, and chains about them in the format of all trainings."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, Final

from PIL import Image

from atomthink_plugin.tasks.demo.figures import draw
from atomthink_plugin.tasks.demo.questions import (
    DemoQuestion,
    Figure,
    draw_figure,
    draw_question,
    held_out,
    training_stream,
)
from atomthink_plugin.training.records import write_records
from atomthink_plugin.training.tiny.labels import corrections, slipped_steps, verdicts, with_number, wrong_number
from atomthink_plugin.training.tiny.model import IMAGE_SIDE

FIGURES: Final = "figures"
STEPS_PER_ROW: Final = 9

Record = dict[str, Any]
Maker = Callable[["Figures", random.Random], Iterator[Record]]


class Figures:
    """Training figures, drawn once into a folder, asked about often.

    Args:
        folder: Where `figures/` is, or will be.
        size: How many.
        seed: Of what they show.
    """

    def __init__(self, folder: Path, size: int, seed: int) -> None:
        rng = random.Random(f"figures {seed}")
        self.folder = folder
        self.all = [draw_figure(rng) for _ in range(size)]

    def file(self, index: int) -> str:
        """Returns a picture's name, relative to the folder."""
        return f"{FIGURES}/{index:05}.png"

    def draw(self) -> None:
        """Writes all pictures as the model sees them, resized as its image processor would."""
        (self.folder / FIGURES).mkdir(parents=True, exist_ok=True)
        with ProcessPoolExecutor() as pool:
            files = [self.folder / self.file(index) for index in range(len(self.all))]
            list(pool.map(_draw, self.all, files, chunksize=100))

    def questions(self, rng: random.Random) -> Iterator[tuple[DemoQuestion, str]]:
        """Yields questions that are not held out, with their pictures, without end."""
        while True:
            index = rng.randrange(len(self.all))
            question = draw_question(self.all[index], rng)
            if not question.held_out:
                yield question, self.file(index)


def _draw(figure: Figure, file: Path) -> None:
    side = (IMAGE_SIDE, IMAGE_SIDE)
    draw(figure).resize(side, Image.Resampling.BICUBIC).save(file, compress_level=1)


def naming(figures: Figures, rng: random.Random) -> Iterator[Record]:
    """Yields what the items of a figure are, in the order they are asked for."""
    for question, image in figures.questions(rng):
        items = rng.sample(question.figure.items, len(question.figure.items))
        text = f"Read {', '.join(name for name, _ in items)}."
        step = " ".join(f"{name} = {value}." for name, value in items)
        yield {"question": text, "images": [image], "steps": [step], "format": "direct"}


def reading(figures: Figures, rng: random.Random) -> Iterator[Record]:
    """Yields beginnings of solutions: the readings a question asks for, in its order."""
    for question, image in figures.questions(rng):
        plan = zip(question.steps, question.plan(), strict=True)
        steps = [step for step, action in plan if action.verb == "read"]
        yield {"question": question.text, "images": [image], "steps": steps}


def solving(figures: Figures, rng: random.Random) -> Iterator[Record]:
    """Yields solutions: nine of ten in atomic steps, the others directly or in one pass."""
    for question, image in figures.questions(rng):
        form = rng.choices(("direct", "cot", None), (5, 5, 90))[0]
        steps = {"direct": [question.direct], "cot": [question.cot], None: list(question.steps)}[form]
        record = {"question": question.text, "images": [image], "steps": steps, "answer": str(question.answer)}
        yield record if form is None else record | {"format": form}


def asking(figures: Figures, rng: random.Random) -> Iterator[Record]:
    """Yields questions alone; `demo` is what an exact judgement of their chains needs."""
    for question, image in figures.questions(rng):
        yield _asked(question, image)


def calculations(figures: Figures, rng: random.Random) -> Iterator[Record]:
    """Yields calculations out of the blue, about half of them wrong: many comparisons, and no image to look at."""
    claims = _claims(rng)
    while True:
        some = list(islice(claims, STEPS_PER_ROW))
        steps, right, corrected = zip(*some, strict=True)
        yield _judged("Check each calculation.", [], steps, right, corrected)


def readings(figures: Figures, rng: random.Random) -> Iterator[Record]:
    """Yields readings out of the blue, half of them wrong."""
    while True:
        index = rng.randrange(len(figures.all))
        items = figures.all[index].items
        some = [_reading(items, rng) for _ in range(STEPS_PER_ROW)]
        steps, right, corrected = zip(*some, strict=True)
        yield _judged("Check each reading.", [figures.file(index)], steps, right, corrected)


def slips(figures: Figures, rng: random.Random) -> Iterator[Record]:
    """Yields gold chains, four fifths of them with slips."""
    for question, image in figures.questions(rng):
        steps = list(question.steps) if rng.random() < 0.2 else slipped_steps(question, rng)
        yield judged(question, image, steps)


def judged(question: DemoQuestion, image: str, steps: list[str]) -> Record:
    """Returns a chain with exact labels, and what would have been right in the place of wrong steps."""
    right = verdicts(question, steps)
    return _judged(question.text, [image], steps, right, corrections(question, steps, right))


def _judged(question: str, images: list[str], steps: Any, right: Any, corrected: Any) -> Record:
    return {
        "question": question,
        "images": images,
        "steps": list(steps),
        "labels": [float(verdict) for verdict in right],
        "corrections": list(corrected),
    }


def _claims(rng: random.Random) -> Iterator[tuple[str, bool, str | None]]:
    """Yields calculations as they occur in gold chains; wrong results are not calculated with."""
    for question in training_stream(rng.getrandbits(32)):
        for step, action, value in zip(question.steps, question.plan(), question.gold_values(), strict=True):
            if action.verb != "compute":
                continue
            if rng.random() < 0.5:
                yield step, True, None
            else:
                yield with_number(step, wrong_number(value, rng)), False, step


def _reading(items: tuple[tuple[str, int], ...], rng: random.Random) -> tuple[str, bool, str | None]:
    name, value = rng.choice(items)
    stated = value
    if rng.random() < 0.5:
        near = value + rng.choice((-2, -1, 1, 2))
        stated = rng.choice((near, rng.randint(2, 9), rng.choice(items)[1]))
    step = f"Step {rng.randint(1, 5)}: Read {name} = {value}."
    return with_number(step, stated), stated == value, None if stated == value else step


MAKERS: Final[dict[str, Maker]] = {
    made.__name__: made for made in (naming, reading, solving, asking, calculations, readings, slips)
}


def write_held_out(folder: Path, count: int, seed: int) -> Path:
    """Draws the figures of held-out questions into a folder, writes the questions there, and returns that file."""
    asked = held_out(count, seed)
    figures = Figures(folder, 0, seed)
    figures.all = [question.figure for question in asked]
    figures.draw()
    file = folder / "asking.jsonl"
    records = (_asked(question, figures.file(index)) for index, question in enumerate(asked))
    write_records(file, ({"id": f"held-out-{seed}-{n}", **record} for n, record in enumerate(records)))
    return file


def _asked(question: DemoQuestion, image: str) -> Record:
    text, answer = question.text, str(question.answer)
    return {"question": text, "images": [image], "answer": answer, "demo": question.to_json()}


def write(figures: Figures, name: str, records: int, seed: int) -> Path:
    """Writes a file of one kind into the figures' folder and returns it.

    Args:
        figures: What it is about; their pictures have to be there.
        name: A name in `MAKERS`.
        records: How many.
        seed: Another one makes other records; the file is called after both.
    """
    file = figures.folder / f"{name}-{seed}.jsonl"
    made = MAKERS[name](figures, random.Random(f"{name} {seed}"))
    write_records(file, ({"id": f"{name}-{seed}-{n}", **record} for n, record in enumerate(islice(made, records))))
    return file
