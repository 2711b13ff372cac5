"""Calls a format, which a plugin may provide. Results are checked, and errors name the format."""

from __future__ import annotations

from atomthink_plugin.api import AtomThinkError, Format, Path, Policy, Prompt, Question, Step, Unit
from atomthink_plugin.formats.parts import answer_at
from atomthink_plugin.runtime.plugin_errors import named


def check_policy(format: Format, policy: Policy) -> None:
    """Raises AtomThinkError if the format cannot be used with the policy, see `QuestionFormat`."""
    if (check := getattr(format, "check_policy", None)) is not None:
        with named(f"the format {_name(format)}"):
            check(policy)


async def format_for(format: Format, question: Question, policy: Policy) -> Format:
    """Returns the format for a question, see `QuestionFormat`; other formats are returned as they are."""
    if (prepare := getattr(format, "for_question", None)) is None:
        return format
    with named(f"the format {_name(format)}"):
        prepared: Format = await prepare(question, policy)
    return prepared


def prompt_after(format: Format, path: Path) -> Prompt:
    """Returns the prompt for the next unit after `path`."""
    with named(f"the format {_name(format)}"):
        prompt = format.render(path)
    check_prompt(prompt, f"the format {_name(format)}")
    return prompt


def unit_after(format: Format, path: Path) -> Unit | None:
    """Returns the next unit after `path`, None for one whole reply."""
    with named(f"the format {_name(format)}"):
        unit = format.unit(path)
    if unit is not None and not isinstance(unit, Unit):
        raise AtomThinkError(f"the format {_name(format)} returned {unit!r} as the unit. Return a `Unit` or None")
    return unit


def answer_of(format: Format, path: Path) -> str | None:
    """Returns the final answer that the format reads at the end of `path`, None if there is none."""
    with named(f"the format {_name(format)}"):
        answer = answer_at(format, path)
    if answer is not None and not isinstance(answer, str):
        raise AtomThinkError(f"the format {_name(format)} returned {answer!r} as the answer. Return a text or None")
    return answer


def check_prompt(prompt: object, author: str) -> None:
    """Checks a prompt from a format or a search.

    Raises:
        AtomThinkError: The prompt is malformed.
    """
    if not isinstance(prompt, Prompt) or not prompt.messages:
        raise AtomThinkError(f"{author} returned {prompt!r:.200}. Return a `Prompt` with at least one message")
    if not all(isinstance(piece, str | Step) for piece in prompt.begun):
        raise AtomThinkError(f"{author} returned a prompt with `begun={prompt.begun!r:.200}`. Use texts and steps")
    if isinstance(prompt.stops, str) or not all(isinstance(stop, str) and stop for stop in prompt.stops):
        raise AtomThinkError(
            f"{author} returned a prompt with `stops={prompt.stops!r:.200}`. Use texts that are not empty"
        )


def _name(format: Format) -> str:
    return type(format).__name__
