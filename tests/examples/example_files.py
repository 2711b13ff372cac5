"""Files of solved examples for tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from atomthink_plugin.api import Example, Message, Question

SUMS = ("Add red and blue.", "Add red and green.", "Multiply red by blue.", "How long is AB?")


def solved(text: str, answer: str = "7") -> Example:
    return Example(text, ("Step 1: Read red = 4.", f"Step 2: To sum up, the final answer is: {answer}."), answer)


def asked(*parts: str | Image.Image, id: str = "q") -> Question:
    return Question(id, (Message("user", parts),))


def record(example: Example, id: str, **more: Any) -> dict[str, Any]:
    return {"id": id, "question": example.question, "steps": example.steps, "answer": example.answer, **more}


def write_examples(file: Path, records: Sequence[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(one) + "\n" for one in records), encoding="utf-8")
    return file
