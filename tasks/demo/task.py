"""The functions of the task `atomthink_demo`: figures and scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from atomthink_plugin.answers import equivalent, final_answer
from atomthink_plugin.formats.steps import split_steps
from atomthink_plugin.tasks.demo.figures import draw
from atomthink_plugin.tasks.demo.questions import DemoQuestion


def doc_to_visual(doc: Mapping[str, Any]) -> list[Image.Image]:
    """Draws the question's figure, an RGB image of 224x224 pixels."""
    return [draw(DemoQuestion.from_json(dict(doc)))]


def process_results(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Scores the first reply to a question.

    Returns:
        `acc` (1.0 or 0.0), which lmms-eval averages, and fields for the samples file: the `extracted` answer, the
        atomic `steps`, `n_steps`, the kind of `figure`, and the `groups` of the reports.
    """
    reply = results[0].strip()
    extracted = final_answer(reply) or reply
    steps = list(split_steps(reply))
    return {
        "acc": float(equivalent(extracted, doc["answer"])),
        "extracted": extracted,
        "steps": steps,
        "n_steps": len(steps),
        "figure": doc["figure"]["kind"],
        "groups": {"figure": [doc["figure"]["kind"]], "calculations": [str(len(doc["operators"]))]},
    }
