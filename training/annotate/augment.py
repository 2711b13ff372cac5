"""Short-CoT augmentation: a reference solution is taken apart into atomic steps and written out.

Source: AtomThink (arXiv 2411.11930), its annotation engine.
"""

from __future__ import annotations

from collections.abc import Sequence

from atomthink_plugin.answers import final_answer
from atomthink_plugin.training.annotate import prompts
from atomthink_plugin.training.annotate.filters import FaultError, concluding, labelled, no_progress, numbers, tidy
from atomthink_plugin.training.annotate.prompts import Pictures
from atomthink_plugin.training.annotate.questions import Item
from atomthink_plugin.training.annotate.solving import Try
from atomthink_plugin.training.annotate.teacher import Reply


class Expansion(Reply):
    """A whole chain, or the rest of one."""

    steps: list[str]


async def expand(attempt: Try, item: Item, pictures: Pictures) -> list[str]:
    """Returns a chain of numbered steps.

    What repeats or breaks off is cut back to the last good step, and the rest is asked for again, warmer.

    Raises:
        FaultError: The chain is badly numbered, too long or goes on behind its end, or makes no progress.
    """
    settings = attempt.settings
    kept: list[str] = []
    fault = ""
    for draws in range(settings.retries + 1):
        asked = prompts.expansion(item, pictures, labelled(kept))
        reply = await attempt.ask(asked, Expansion, draws=draws, tokens=settings.chain_tokens)
        _require_numbers(reply.steps, len(kept))
        before = len(kept)
        fault = _take(reply.steps, kept)
        if len(kept) > settings.max_steps:
            raise FaultError("steps", f"not concluded within {settings.max_steps} steps", fault)
        if not fault:
            return labelled(kept)
        if len(kept) == before and before:
            kept.pop()  # nothing follows from there
    raise FaultError("steps", "no progress", fault)


def _require_numbers(steps: Sequence[str], before: int) -> None:
    told = numbers(steps)
    if any(number is not None for number in told) and told != list(range(before + 1, before + len(steps) + 1)):
        raise FaultError("format", "steps are not numbered 1 to n", str(told))


def _take(steps: Sequence[str], kept: list[str]) -> str:
    """Appends the good steps up to the first that is not, and returns what is wrong with that; empty at the end."""
    for index, step in enumerate(steps):
        text = tidy(step)
        answer = final_answer(text)
        if answer is not None:
            if index < len(steps) - 1:
                raise FaultError("format", "a step before the last states a final answer", step)
            kept.append(concluding(answer))
            return ""
        fault = no_progress(text, kept)
        if fault:
            return fault
        kept.append(text)
    return "breaks off before a final answer"
