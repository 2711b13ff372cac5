"""A path in the prompt format that a PRM was trained with: the question as the prompt, the steps as the reply."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from atomthink_plugin.api import WHOLE, Format, Path, Prompt, Unit
from atomthink_plugin.formats.parts import begun_opening
from atomthink_plugin.scorers.scored_step import last_step


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of the reply, tokenised by itself.

    Attributes:
        text: The text.
        ends: Whether it is a step, with the joint after it, and not text that the format puts between steps.
    """

    text: str
    ends: bool


def prompt_and_reply(format: Format, path: Path) -> tuple[Prompt, list[Piece]]:
    """Returns the prompt that asks for the last step, and the reply up to the end of that step.

    The reply is cut at the start and the end of each step, so that the tokens of a path are a prefix of those of every
    extension of it. Token ids of sampled steps are not used: they may come from another tokenizer.

    Args:
        format: The PRM's format; it may keep earlier steps in the question.
        path: The path to score.
    """
    step = last_step(path)
    asked = path.parent or path
    prompt = format.render(asked)
    unit = format.unit(asked) or WHOLE
    before = _before(prompt, unit)
    return prompt, [*_begun(format, asked, before), Piece(step.text + unit.joint, ends=True)]


def _begun(format: Format, path: Path, reply: str) -> Iterator[Piece]:
    """Yields the pieces of a begun reply that holds the steps of `path`, or some of them."""
    at = 0
    for node in path.lineage if reply else ():
        assert node.parent is not None
        assert node.step is not None
        text, unit = node.step.text, format.unit(node.parent) or WHOLE
        start = at
        if not reply.startswith(text + unit.joint, at):  # the format put other text before the step, or left it out
            before = _before(format.render(node.parent), unit)
            if not reply.startswith(before + text):
                continue
            start = len(before)
        end = start + len(text)
        end += len(unit.joint) if reply.startswith(unit.joint, end) else 0
        if at < start:
            yield Piece(reply[at:start], ends=False)
        yield Piece(reply[start:end], ends=True)
        at = end
    if at < len(reply):
        yield Piece(reply[at:], ends=False)


def _before(prompt: Prompt, unit: Unit) -> str:
    """Returns the beginning of the reply without the start tag that the unit's own text has."""
    return prompt.prefix.removesuffix(begun_opening(prompt.prefix, unit))
