"""LLaVA-CoT's stage-level beam search, in which a judge compares the candidates of each stage.

Source: LLaVA-CoT (arXiv 2411.10440, version 1) and its inference code. The published settings are 4 candidates at
temperature 0.6 and top_p 0.9, with the policy itself as the judge. The judge's prompts have the published parts, in
other words.

Different from the published code: candidates are compared in the order of their samples, not at random. Equal
candidates count as one. If a verdict cannot be read, the likelier candidate wins, not the second. If all candidates of
REASONING are called incorrect, all of them are compared.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final

from atomthink_plugin.api import Choice, Count, Message, Path, Prompt, Search, SearchTree
from atomthink_plugin.formats.parts import append, prepend
from atomthink_plugin.searches.parts.judging import VERDICT, duel, tournament

_CRITERIA: Final = {
    "SUMMARY": (
        "better summarizes how to solve the question",
        "A summary outlines the approach, without detailed reasoning or formulas.",
    ),
    "CAPTION": (
        "better describes what the image shows that matters to the question, with fewer errors",
        "A caption gives as many details as possible, and every detail is right.",
    ),
    "REASONING": (
        "better explains the reasoning that solves the question, with fewer errors",
        "Read the question, then examine each response by itself, and decide by where they differ.",
    ),
    "CONCLUSION": (
        "better concludes what the answer to the question is",
        "A conclusion agrees with the reasoning in the hint, and never refuses to answer.",
    ),
}
_OTHER: Final = ("is the better next step towards the answer to the question", "A step has no errors and leads on.")
"""What the judge decides by, for each stage and for units of other formats."""

_HINTS: Final = {"SUMMARY": (), "CAPTION": (), "REASONING": ("CAPTION",), "CONCLUSION": ("CAPTION", "REASONING")}
"""The earlier stages that the judge sees; of other formats it sees all earlier units."""

_FORM: Final = 'Reply in this form and write nothing else: "Since [reason], I choose response [1/2]."'

_CHECK: Final = (
    "You are a judge. Decide whether the reasoning below is right, given the information about the image. Take this "
    "information for right. Verify every calculation. Reply 'correct' if you find no error, else 'incorrect'."
)


def stage_beam(candidates: Count = 4) -> Search:
    """Samples `candidates` of each stage, compares them in pairs and continues from the winner.

    The model in the role `judge` compares them; without one, the policy itself does. Candidates of REASONING are first
    checked one by one, from their text and the caption. Those called incorrect are dropped, unless all are. When the
    budget is spent, the search ends with the stages that it has. With another format, steps take the place of stages.

    Args:
        candidates: Samples of each stage.
    """

    async def search(tree: SearchTree) -> Choice:
        path = tree.root
        while not path.final:
            (children,) = await tree.expand([path], candidates)
            if not children:
                break
            if _unit(children[0]) == "REASONING" and len(children) > 1:
                faulty = await asyncio.gather(*(_called_incorrect(tree, child) for child in children))
                children = [child for child, wrong in zip(children, faulty, strict=True) if not wrong] or children
            path = await tournament(children, partial(_duel, tree, path))
        return Choice(path, 0.0, tree.why(path))

    return search


async def _duel(tree: SearchTree, at: Path, first: Path, second: Path) -> Path:
    return await duel(tree, at, duel_prompt(first, second), (first, second))


def duel_prompt(first: Path, second: Path) -> Prompt:
    """Returns the prompt that asks a judge which of two candidates of a stage is better."""
    which, criterion = _CRITERIA.get(_unit(first), _OTHER)
    head = f"You are a judge. Decide which of two responses {which}. {criterion}\n\nQuestion: "
    hint = f"\n\nHint about the question: {_hint(first)}" if _hint(first) else ""
    tail = f"{hint}\n\nResponse 1: {_inner(first)}\n\nResponse 2: {_inner(second)}\n\n{criterion} {_FORM}"
    return Prompt(append(prepend(first.question.messages, head), tail))


def reasoning_prompt(path: Path) -> Prompt:
    """Returns the prompt that asks a judge, without the image, whether the reasoning at the end of a path is right."""
    text = f"{_CHECK}\n\nInformation: {_hint(path)}\n\nReasoning: {_inner(path)}"
    return Prompt((Message("user", (text,)),))


async def _called_incorrect(tree: SearchTree, path: Path) -> bool:
    wrong = False
    for reply in await tree.ask(path, reasoning_prompt(path), use="check", role="judge", unit=VERDICT):
        wrong = reply.step is not None and "incorrect" in reply.step.text.casefold()
        tree.note(reply, f"verdict {'incorrect' if wrong else 'correct'}")
    return wrong


def _hint(path: Path) -> str:
    shown = _HINTS.get(_unit(path))
    return "\n\n".join(_inner(node) for node in path.lineage[:-1] if shown is None or _unit(node) in shown)


def _unit(path: Path) -> str:
    return path.step.unit if path.step is not None else ""


def _inner(path: Path) -> str:
    """Returns the last unit without the tags of a stage."""
    text = path.step.text if path.step is not None else ""
    return text.removeprefix(f"<{_unit(path)}>").removesuffix(f"</{_unit(path)}>").strip()
