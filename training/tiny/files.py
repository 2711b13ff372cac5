"""The training data of the embedded model: chains about figures, in the records that all trainings read."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

from atomthink_plugin.tasks.demo.questions import DemoQuestion, held_out, training_stream
from atomthink_plugin.training.records import write_records
from atomthink_plugin.training.tiny.figures import Figures
from atomthink_plugin.training.tiny.forms import arrow, stages, thoughts, zero_shot
from atomthink_plugin.training.tiny.labels import corrections, slipped_steps, verdicts, with_number, wrong_number
from atomthink_plugin.training.tiny.requests import ballots, checks, duels, summaries

STEPS_PER_ROW: Final = 9

Record = dict[str, Any]
Maker = Callable[[Figures, random.Random], Iterator[Record]]


def naming(figures: Figures, rng: random.Random) -> Iterator[Record]:
    """Yields the values of a figure's items, in the order of the question."""
    for question, image in figures.questions(rng):
        items = rng.sample(question.figure.items, len(question.figure.items))
        text = f"Read {', '.join(name for name, _ in items)}."
        step = " ".join(f"{name} = {value}." for name, value in items)
        yield {"question": text, "images": [image], "steps": [step], "format": "direct"}


def reading(figures: Figures, rng: random.Random) -> Iterator[Record]:
    """Yields the first part of solutions: the readings that a question needs, in its order."""
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
    """Yields questions without chains; `demo` holds the figure, for exact labels of sampled chains."""
    for question, image in figures.questions(rng):
        yield _asked(question, image)


def calculations(figures: Figures, rng: random.Random) -> Iterator[Record]:
    """Yields calculations without a question or an image, about half of them wrong."""
    claims = _claims(rng)
    while True:
        some = list(islice(claims, STEPS_PER_ROW))
        steps, right, corrected = zip(*some, strict=True)
        yield _labelled("Check each calculation.", [], steps, right, corrected)


def readings(figures: Figures, rng: random.Random) -> Iterator[Record]:
    """Yields readings of a figure without a question, half of them wrong."""
    while True:
        index = rng.randrange(len(figures.all))
        items = figures.all[index].items
        some = [_reading(items, rng) for _ in range(STEPS_PER_ROW)]
        steps, right, corrected = zip(*some, strict=True)
        yield _labelled("Check each reading.", [figures.file(index)], steps, right, corrected)


def slips(figures: Figures, rng: random.Random) -> Iterator[Record]:
    """Yields gold chains, four fifths of them with wrong steps."""
    for question, image in figures.questions(rng):
        steps = list(question.steps) if rng.random() < 0.2 else slipped_steps(question, rng)
        yield labelled_chain(question, image, steps)


def labelled_chain(question: DemoQuestion, image: str, steps: list[str]) -> Record:
    """Returns a chain with exact labels, and corrections of wrong steps."""
    right = verdicts(question, steps)
    return _labelled(question.text, [image], steps, right, corrections(question, steps, right))


def _labelled(question: str, images: list[str], steps: Any, right: Any, corrected: Any) -> Record:
    return {
        "question": question,
        "images": images,
        "steps": list(steps),
        "labels": [float(verdict) for verdict in right],
        "corrections": list(corrected),
    }


def _claims(rng: random.Random) -> Iterator[tuple[str, bool, str | None]]:
    """Yields calculations of gold chains; wrong results are not used by later ones."""
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
    maker.__name__: maker
    for maker in (
        *(naming, reading, solving, asking, calculations, readings, slips),
        *(stages, thoughts, arrow, zero_shot, summaries, duels, checks, ballots),
    )
}


def write_held_out(folder: Path, count: int, seed: int) -> Path:
    """Writes held-out questions and their pictures into a folder, and returns the file of questions."""
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
    """Writes a file of records of one kind into the folder of the figures, and returns it.

    Args:
        figures: Figures whose pictures exist.
        name: A name in `MAKERS`.
        records: Number of records.
        seed: Seed of the records; name and seed make the file name.
    """
    file = figures.folder / f"{name}-{seed}.jsonl"
    made = MAKERS[name](figures, random.Random(f"{name} {seed}"))
    write_records(file, ({"id": f"{name}-{seed}-{n}", **record} for n, record in enumerate(islice(made, records))))
    return file
