"""Dynamic prompting: the teacher extends a chain step by step and decides to continue, to verify or to conclude.

Source: AtomThink (arXiv 2411.11930), its annotation engine; a step that brings the chain no further is drawn again,
warmer, and where that does not help the chain is cut back by one more step.
"""

from __future__ import annotations

from typing import Literal

from atomthink_plugin.answers import final_answer
from atomthink_plugin.training.annotate import prompts
from atomthink_plugin.training.annotate.filters import FaultError, concluding, labelled, no_progress, tidy
from atomthink_plugin.training.annotate.prompts import Pictures
from atomthink_plugin.training.annotate.questions import Item
from atomthink_plugin.training.annotate.solving import Try
from atomthink_plugin.training.annotate.teacher import Reply

CUTS = 3
"""How often a chain may be cut back before the try is given up."""


class NextStep(Reply):
    """What follows the steps so far."""

    action: Literal["continue", "verify", "conclude"]
    step: str
    answer: str = ""
    wrong_step: int = 0


async def grow(attempt: Try, item: Item, pictures: Pictures) -> list[str]:
    """Returns a chain of numbered steps.

    Raises:
        FaultError: The chain makes no progress, or has all the steps it may have and does not conclude.
    """
    settings = attempt.settings
    steps: list[str] = []
    draws = cuts = 0
    fault, looked_back = "", False
    while cuts <= CUTS:
        last = len(steps) == settings.max_steps - 1
        hint = f"Your last proposal was refused, it {fault}. Write another." if fault else ""
        asked = prompts.next_step(item, pictures, labelled(steps), last, hint)
        reply = await attempt.ask(asked, NextStep, draws=draws, tokens=settings.step_tokens)
        if reply.action == "conclude" and steps and (answer := _answer(reply)):
            return labelled([*steps, concluding(answer)])
        if reply.action == "verify" and 0 < reply.wrong_step <= len(steps):
            steps, draws, cuts, fault, looked_back = steps[: reply.wrong_step - 1], 1, cuts + 1, "", False
            continue
        text = tidy(reply.step)
        fault = _fault(reply, text, steps, last, looked_back) or ""
        if not fault:
            steps.append(text)
            draws, looked_back = 0, reply.action == "verify"
            continue
        draws += 1
        if draws > settings.retries:
            if last:
                raise FaultError("steps", f"not concluded within {settings.max_steps} steps", fault)
            if not steps:
                break
            steps, draws, cuts, looked_back = steps[:-1], 1, cuts + 1, False
    raise FaultError("steps", "no progress", fault or "steps are taken back again and again")


def _answer(reply: NextStep) -> str:
    return reply.answer.strip().rstrip(".") or final_answer(reply.step) or ""


def _fault(reply: NextStep, text: str, steps: list[str], last: bool, looked_back: bool) -> str | None:
    """Returns why a step is not taken, None if it is."""
    if reply.action == "conclude":
        return "concludes without an answer" if steps else "concludes before there is a step"
    if last:
        return "does not conclude"
    if final_answer(text) is not None:
        return "states the final answer without concluding"
    if reply.action == "verify" and looked_back:
        return "verifies twice in a row"
    return no_progress(text, steps)
