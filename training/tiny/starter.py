"""`atomthink init`: a small project that trains on questions of the demo task, to be changed into one's own."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Final, Literal

from PIL.Image import Resampling

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.model_adapters.tiny import WEIGHTS
from atomthink_plugin.tasks.demo.figures import draw
from atomthink_plugin.tasks.demo.questions import DemoQuestion, held_out
from atomthink_plugin.training.tiny.figures import IMAGE_SIDE

QUESTIONS: Final = 32
HELD_OUT: Final = 16
SEED: Final = 2026

COMMANDS: Final = re.compile(r"^```\n(.*?)^```", re.MULTILINE | re.DOTALL)
"""The commands of a project, the only block of its README."""


def write_project(kind: Literal["prm", "policy"], folder: Path) -> str:
    """Writes questions with images, a recipe and a README with the commands in order.

    Args:
        kind: What the project trains.
        folder: Made if it is not there. Existing files are never overwritten.

    Returns:
        The commands, one per line, to be run in the folder.

    Raises:
        AtomThinkError: A file exists, or the folder cannot be written.
    """
    templates = files("atomthink_plugin.training") / "templates" / kind
    texts = {
        name: Template((templates / name).read_text(encoding="utf-8")).substitute(policy=WEIGHTS / "policy")
        for name in ("README.md", "recipe.yaml")
    }
    images = folder / "images"
    targets = [*(folder / name for name in (*texts, "questions.jsonl", "held_out.jsonl")), images]
    if taken := [str(target) for target in targets if target.exists()]:
        raise AtomThinkError(f"`{folder}`: {', '.join(taken)} would be overwritten; name another folder")
    asked = held_out(QUESTIONS + HELD_OUT, SEED)
    try:
        images.mkdir(parents=True)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
        _write_questions(folder / "questions.jsonl", asked[:QUESTIONS])
        if kind == "prm":
            _write_questions(folder / "held_out.jsonl", asked[QUESTIONS:])
    except OSError as error:
        raise AtomThinkError(f"`{folder}` cannot be written: {error.strerror}") from None
    found = COMMANDS.search(texts["README.md"])
    assert found is not None
    return found[1]


def _write_questions(file: Path, asked: list[DemoQuestion]) -> None:
    lines = []
    for number, question in enumerate(asked):
        image = f"images/{file.stem}-{number:02}.png"
        draw(question).resize((IMAGE_SIDE, IMAGE_SIDE), Resampling.BICUBIC).save(file.parent / image, optimize=True)
        record = {"id": f"{file.stem}-{number:02}", "question": question.text, "images": [image]}
        lines.append(json.dumps({**record, "answer": str(question.answer)}) + "\n")
    file.write_text("".join(lines), encoding="utf-8")
