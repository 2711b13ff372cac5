"""Dynamic prompting: the teacher extends a chain step by step, and chooses to continue, to verify or to conclude.

Source: AtomThink (arXiv 2411.11930), its annotation engine. A step that adds nothing is sampled again at a higher
temperature. If that does not help, the step before it is removed too.
"""

from __future__ import annotations

from typing import Final, Literal

from atomthink_plugin.answers import final_answer
from atomthink_plugin.training.annotate import prompts
from atomthink_plugin.training.annotate.attempt import Attempt
from atomthink_plugin.training.annotate.filters import AttemptError, conclusion, no_progress, numbered, without_label
from atomthink_plugin.training.annotate.prompts import Images
from atomthink_plugin.training.annotate.teacher import TeacherReply
from atomthink_plugin.training.records import AnsweredQuestion

MAX_CUTS: Final = 3
"""How often steps may be removed from a chain before the attempt ends."""


class NextStep(TeacherReply):
    """What follows the steps so far."""

    action: Literal["continue", "verify", "conclude"]
    step: str
    answer: str = ""
    wrong_step: int = 0


async def extend_stepwise(attempt: Attempt, record: AnsweredQuestion, images: Images) -> list[str]:
    """Returns a chain of numbered steps.

    Raises:
        AttemptError: The chain makes no progress, or reaches the maximum number of steps without a conclusion.
    """
    settings = attempt.settings
    steps: list[str] = []
    samples = cuts = 0
    fault, verified = "", False
    while cuts <= MAX_CUTS:
        last = len(steps) == settings.max_steps - 1
        hint = f"Your last proposal was refused, it {fault}. Write another." if fault else ""
        messages = prompts.next_step(record, images, numbered(steps), last, hint)
        reply = await attempt.ask(messages, NextStep, samples=samples, max_tokens=settings.step_tokens)
        if reply.action == "conclude" and steps and (answer := _answer(reply)):
            return numbered([*steps, conclusion(answer)])
        if reply.action == "verify" and 0 < reply.wrong_step <= len(steps):
            steps, samples, cuts, fault, verified = steps[: reply.wrong_step - 1], 1, cuts + 1, "", False
            continue
        text = without_label(reply.step)
        fault = _fault(reply, text, steps, last, verified) or ""
        if not fault:
            steps.append(text)
            samples, verified = 0, reply.action == "verify"
            continue
        samples += 1
        if samples > settings.retries:
            if last:
                raise AttemptError("steps", f"not concluded within {settings.max_steps} steps", fault)
            if not steps:
                break
            steps, samples, cuts, verified = steps[:-1], 1, cuts + 1, False
    raise AttemptError("steps", "no progress", fault or "steps are removed again and again")


def _answer(reply: NextStep) -> str:
    return reply.answer.strip().rstrip(".") or final_answer(reply.step) or ""


def _fault(reply: NextStep, text: str, steps: list[str], last: bool, verified: bool) -> str | None:
    """Returns why a step is refused, None if it is taken. The teacher is shown the reason."""
    if reply.action == "conclude":
        return "concludes without an answer" if steps else "concludes before there is a step"
    if last:
        return "does not conclude"
    if final_answer(text) is not None:
        return "states the final answer without concluding"
    if reply.action == "verify" and verified:
        return "verifies twice in a row"
    return no_progress(text, steps)
