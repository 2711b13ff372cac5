"""The page of the formats, with the prompt of each."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from described import Argument, entries, of_callable, paragraphs, summary

from atomthink_plugin.api import Message, Question, Step
from atomthink_plugin.api import Path as Chain
from atomthink_plugin.formats.cot import Cot
from atomthink_plugin.formats.direct import Direct
from atomthink_plugin.plugins import defaults
from atomthink_plugin.plugins.arguments import parameters

_IMAGE: Final[Any] = None

_QUESTION: Final = Question("example", (Message("user", (_IMAGE, "How many bars are blue?")),))

_SOLVED: Final = {
    "id": "solved",
    "question": "How many bars are red?",
    "steps": ["Step 1: The bars at 2 and 5 are red.", "Step 2: To sum up, the final answer is: 2."],
    "answer": "2",
}


def formats() -> dict[str, Callable[..., Any]]:
    """Returns all formats by name, those of the ways of thinking in one reply last."""
    return {**defaults.atomthink_formats(), "cot": Cot, "direct": Direct}


def format_arguments() -> dict[str, list[Argument]]:
    """Returns the arguments of each format."""
    return {
        name: of_callable(make, f"the format {name}", parameters(make, "format_")) for name, make in formats().items()
    }


def formats_page() -> str:
    """Returns the page of all formats."""
    return "\n\n".join(
        [
            "# Formats",
            "A format decides how a policy is asked for the next step, and what one reply is. `format=` names one of "
            "those that ask for steps; `cot` and `direct` belong to `thinking=cot` and `thinking=direct`.",
            "The examples ask a question with an image after one step. `[image]` stands for the image.",
            *(part for name, make in formats().items() for part in _format(name, make)),
        ]
    )


def _format(name: str, make: Callable[..., Any]) -> Iterator[str]:
    yield f"## `{name}`"
    first, *rest = paragraphs(sys.modules[make.__module__].__doc__ or "")
    yield first
    yield summary(make)
    yield entries(format_arguments()[name], f"{name}-") or "It has no arguments."
    yield "What the model is asked:"
    yield f"```text\n{_example(_form(name, make))}\n```"
    yield from rest


def _form(name: str, make: Callable[..., Any]) -> Any:
    """Returns a format with its default arguments; `few_shot` has a file with one example."""
    if name != "few_shot":
        return make()
    with TemporaryDirectory() as folder:
        file = Path(folder) / "examples.jsonl"
        file.write_text(json.dumps(_SOLVED), encoding="utf-8")
        form = make(str(file), nearest="fixed")
    return asyncio.run(form.for_question(_QUESTION, None))


def _example(form: Any) -> str:
    """Returns the prompt after one step, or of one reply."""
    path = Chain(_QUESTION)
    if (unit := form.unit(path)) is not None:
        inner = "Count.".removesuffix(unit.closing)
        text = "Step 1: The chart has five bars." if unit.name == "step" else f"{unit.opening}{inner}{unit.closing}"
        path = path.extend(Step(text))
    prompt = form.render(path)
    turns = "\n\n".join(f"{turn.role.upper()}\n{''.join(map(_shown, turn.parts))}" for turn in prompt.messages)
    return f"{turns}\n\nASSISTANT (continued)\n{prompt.prefix}".rstrip() if prompt.begun else turns


def _shown(part: Any) -> str:
    return part if isinstance(part, str) else "[image]\n"
