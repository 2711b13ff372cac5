"""A path as the policy's own prompt format writes it: the question, and the steps as the reply."""

from __future__ import annotations

from dataclasses import replace

from atomthink_plugin.api import AtomThinkError, Format, Path
from atomthink_plugin.inference.encoding import Encoder, Encoding
from atomthink_plugin.plugins.registry import registry
from atomthink_plugin.scorers.scored_step import last_step


def format_named(name: str) -> Format:
    """Returns the registered format that a PRM was trained with.

    Raises:
        AtomThinkError: No format of that name is installed.
    """
    formats = registry().formats
    if name not in formats:
        raise AtomThinkError(f"prm_format={name!r} is not installed; formats: {', '.join(sorted(formats))}")
    return formats[name]()


def question_and_steps(encoder: Encoder, format: Format, path: Path, end: str) -> tuple[Encoding, list[list[int]]]:
    """Returns the question's encoding and the ids of each step that stands in the reply, the last included.

    Args:
        encoder: The PRM's.
        format: What asked for the last step; it may keep earlier steps in the question.
        path: The path to score.
        end: Written behind the last step, so that its ids are those it has when the chain goes on.
    """
    step = last_step(path)
    prompt = format.render(path.parent or path)
    question = encoder.encode(replace(prompt, begun=()))
    return question, encoder.split([*prompt.begun, step.text + end])
