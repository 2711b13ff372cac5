"""Marco-o1's reflection: a sentence after a finished thought, from which the policy thinks again.

Source: Marco-o1 (arXiv 2411.14405), which adds this sentence at the end of each thought process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from atomthink_plugin.api import Format, Path, Prompt, SearchTree, Unit
from atomthink_plugin.formats.parts import answer_at

REFLECTION: Final = "Wait! Maybe I made some mistakes! I need to rethink from scratch."

_UNIT: Final = "reflection"

_BLANK_LINE: Final = "\n\n"


def with_reflection(tree: SearchTree, path: Path) -> Path:
    """Returns the path with the reflection after its first thought, the path itself if that is not finished or has one.

    The reflection is a step that the search writes, so that the path does not conclude with it.
    """
    if not path.final or _start(path):
        return path
    unit = tree.format.unit(path)
    joint = unit.joint if unit is not None else _BLANK_LINE
    text = REFLECTION if joint else f"{_BLANK_LINE}{REFLECTION}{_BLANK_LINE}"
    return tree.write(path, text, Unit(_UNIT, joint=joint))


async def one_thought(tree: SearchTree, path: Path, first: int) -> Path:
    """Returns a chain from `path` to its end, whose samples have the index `first`."""
    (chain,) = await tree.rollouts(1, start=path, first=first)
    return chain


async def two_thoughts(tree: SearchTree, path: Path, first: int) -> Path:
    """Returns a chain from `path` over the reflection to its end, whose samples have the index `first`."""
    if not _start(path):
        path = with_reflection(tree, await one_thought(tree, path, first))
    format = format_after(tree, path)
    while _start(path) and not path.final:
        (children,) = await tree.expand([path], 1, first=first, format=format)
        if not children:
            break
        path = children[0]
    return path


def format_after(tree: SearchTree, path: Path) -> Format:
    """Returns the format for steps after `path`: the run's, or that of the second thought."""
    start = _start(path)
    return Rethinking(tree.format, start) if start else tree.format


def _start(path: Path) -> int:
    """Returns the number of steps up to the reflection, 0 without one."""
    return next((at for at, step in enumerate(path.steps, 1) if step.unit == _UNIT and not step.role), 0)


@dataclass(frozen=True, slots=True)
class Rethinking:
    """Asks for the second thought, which may repeat steps of the first one and ends with an answer of its own.

    Attributes:
        format: The format of both thoughts.
        start: Number of steps up to the reflection.
    """

    format: Format
    start: int

    def render(self, path: Path) -> Prompt:
        """Returns the prompt with both thoughts."""
        return self.format.render(path)

    def unit(self, path: Path) -> Unit | None:
        """Returns the format's unit, checked against the steps of the second thought only."""
        unit = self.format.unit(path)
        if unit is None:
            return None

        def check(text: str, history: Sequence[str]) -> str | None:
            return unit.check(text, history[self.start :])

        return replace(unit, check=check)

    def answer(self, text: str) -> str | None:
        """Returns the final answer that a text states."""
        return self.format.answer(text)

    def answer_at(self, path: Path) -> str | None:
        """Returns the final answer that the second thought states."""
        second = Path(replace(path.question, history=()))
        for step in path.steps[self.start :]:
            second = second.extend(step)
        return answer_at(self.format, second)
