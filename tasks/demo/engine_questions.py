"""Demo questions for the engine, without lmms-eval."""

from __future__ import annotations

from collections.abc import Sequence

from atomthink_plugin.answers import equivalent
from atomthink_plugin.api import Limits, Message, Outcome, Question, Result
from atomthink_plugin.tasks.demo.figures import draw
from atomthink_plugin.tasks.demo.questions import DemoQuestion


def engine_questions(demo: Sequence[DemoQuestion]) -> list[Question]:
    """Returns the questions as lmms-eval would ask them: the figure, then the text."""
    return [
        Question(f"atomthink_demo/test/{i}/0", (Message("user", (draw(item), item.text)),), limits=Limits(1024))
        for i, item in enumerate(demo)
    ]


def right_answers(demo: Sequence[DemoQuestion], results: Sequence[Result]) -> list[bool]:
    """Returns whether the answer to each question is right. A failed question counts as wrong."""
    return [
        isinstance(result, Outcome) and result.answer is not None and equivalent(result.answer, str(item.answer))
        for item, result in zip(demo, results, strict=True)
    ]
