"""Gold replies about figures in other forms than atomic steps: LLaVA-CoT's stages, Insight-V's thoughts, an arrow."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from atomthink_plugin.formats.arrow import ARROW, REPLY_END
from atomthink_plugin.formats.steps import SEPARATOR, body
from atomthink_plugin.formats.thoughts import END, START
from atomthink_plugin.searches.zero_shot_cot import REASONING_TRIGGER, answer_trigger
from atomthink_plugin.tasks.demo.questions import DemoQuestion
from atomthink_plugin.training.tiny.figures import Figures


def stages(figures: Figures, rng: random.Random) -> Iterator[dict[str, Any]]:
    """Yields solutions in stages: how much to read and compute, the readings, the calculations, the answer."""
    for question, image in figures.questions(rng):
        yield _record(question, image, "stages", [f"<{tag}> {text} </{tag}>" for tag, text in staged(question).items()])


def thoughts(figures: Figures, rng: random.Random) -> Iterator[dict[str, Any]]:
    """Yields solutions whose readings and calculations are the thoughts, before the answer."""
    for question, image in figures.questions(rng):
        thought = SEPARATOR.join(bodies(question))
        answer = f"The final answer is: {question.answer}."
        yield _record(question, image, "thoughts", [f"{START} {thought} {END}", answer])


def arrow(figures: Figures, rng: random.Random) -> Iterator[dict[str, Any]]:
    """Yields solutions with the answer after an arrow."""
    for question, image in figures.questions(rng):
        reply = f"{' '.join(bodies(question))} {ARROW} {question.answer}{REPLY_END}"
        yield _record(question, image, "arrow", [reply])


def zero_shot(figures: Figures, rng: random.Random) -> Iterator[dict[str, Any]]:
    """Yields solutions in the two parts of zero-shot chain of thought, as one reply with both triggers."""
    for question, image in figures.questions(rng):
        rationale = f"{REASONING_TRIGGER} {' '.join(bodies(question))}"
        yield _record(question, image, "direct", [f"{rationale}{SEPARATOR}{answer_trigger(0)} {question.answer}."])


def staged(question: DemoQuestion) -> dict[str, str]:
    """Returns the text of each stage by its tag.

    The summary names no item: the model is too small to repeat the names before it has read their values.
    """
    read = [action.name for action in question.plan() if action.verb == "read"]
    computed = bodies(question)[len(read) :]
    return {
        "SUMMARY": f"Read {len(read)} values, then compute {len(computed)} results.",
        "CAPTION": f"{', '.join(f'{name} = {question.figure.values[name]}' for name in read)}.",
        "REASONING": SEPARATOR.join(computed),
        "CONCLUSION": str(question.answer),
    }


def bodies(question: DemoQuestion) -> list[str]:
    """Returns the gold steps without their labels and without the conclusion."""
    return [body(step) for step in question.steps[:-1]]


def _record(question: DemoQuestion, image: str, form: str, steps: list[str]) -> dict[str, Any]:
    answer = str(question.answer)
    return {"question": question.text, "images": [image], "steps": steps, "answer": answer, "format": form}
