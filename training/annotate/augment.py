"""Short-CoT augmentation: the teacher writes out a reference solution as a chain of atomic steps.

Source: AtomThink (arXiv 2411.11930), its annotation engine.
"""

from __future__ import annotations

from collections.abc import Sequence

from atomthink_plugin.answers import final_answer
from atomthink_plugin.training.annotate import prompts
from atomthink_plugin.training.annotate.attempt import Attempt
from atomthink_plugin.training.annotate.filters import (
    AttemptError,
    conclusion,
    no_progress,
    numbered,
    step_numbers,
    without_label,
)
from atomthink_plugin.training.annotate.prompts import Images
from atomthink_plugin.training.annotate.teacher import TeacherReply
from atomthink_plugin.training.records import AnsweredQuestion


class Expansion(TeacherReply):
    """A whole chain, or the rest of one."""

    steps: list[str]


async def augment(attempt: Attempt, record: AnsweredQuestion, images: Images) -> list[str]:
    """Returns a chain of numbered steps.

    A chain that repeats itself or breaks off is cut after its last good step, and the rest is asked for again.

    Raises:
        AttemptError: The chain is badly numbered, too long, continues after its conclusion, or makes no progress.
    """
    settings = attempt.settings
    kept: list[str] = []
    fault = ""
    for samples in range(settings.retries + 1):
        messages = prompts.expansion(record, images, numbered(kept))
        reply = await attempt.ask(messages, Expansion, samples=samples, max_tokens=settings.chain_tokens)
        _require_numbers(reply.steps, len(kept))
        before = len(kept)
        fault = _append_good_steps(reply.steps, kept)
        if len(kept) > settings.max_steps:
            raise AttemptError("steps", f"not concluded within {settings.max_steps} steps", fault)
        if not fault:
            return numbered(kept)
        if len(kept) == before and before:
            kept.pop()  # no good step follows it
    raise AttemptError("steps", "no progress", fault)


def _require_numbers(steps: Sequence[str], before: int) -> None:
    numbers = step_numbers(steps)
    expected = list(range(before + 1, before + len(steps) + 1))
    if any(number is not None for number in numbers) and numbers != expected:
        raise AttemptError("format", "steps are not numbered 1 to n", str(numbers))


def _append_good_steps(steps: Sequence[str], kept: list[str]) -> str:
    """Appends the steps up to the first bad one, and returns what is wrong with that. Empty if the chain concludes."""
    for index, step in enumerate(steps):
        text = without_label(step)
        answer = final_answer(text)
        if answer is not None:
            if index < len(steps) - 1:
                raise AttemptError("format", "a step before the last states a final answer", step)
            kept.append(conclusion(answer))
            return ""
        fault = no_progress(text, kept)
        if fault:
            return fault
        kept.append(text)
    return "breaks off before a final answer"
