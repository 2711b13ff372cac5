"""Wrong versions of right steps, as in AtomThink's PRM data.

Source: AtomThink (arXiv 2411.11930). In addition, a wrong version is compared with the right step, and the teacher
checks it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from atomthink_plugin.answers import equivalent, final_answer
from atomthink_plugin.formats.steps import body, check
from atomthink_plugin.training.annotate import prompts
from atomthink_plugin.training.annotate.attempt import Attempt
from atomthink_plugin.training.annotate.filters import AttemptError, RefusedAttemptError, without_label
from atomthink_plugin.training.annotate.prompts import Images
from atomthink_plugin.training.annotate.teacher import TeacherReply
from atomthink_plugin.training.records import Chain, read_images

ErrorKind = Literal["factual", "calculation", "logic", "empty"]

_RESULT: Final = re.compile(r"=\s*([^=\n]+?)\s*[.;]?\s*\Z")
_FIGURES: Final = re.compile(r"\d+(?:[.,]\d+)*|[-+*/=<>^√]")


class WrongStep(TeacherReply):
    """A wrong version of one step."""

    number: int
    kind: ErrorKind
    text: str


class WrongSteps(TeacherReply):
    """Wrong versions of the steps that were asked for."""

    steps: list[WrongStep]


class Opinion(TeacherReply):
    """Which versions are wrong, by their numbers."""

    wrong: list[int]


def same_as_right(wrong: str, right: str, kind: ErrorKind) -> str | None:
    """Returns why a wrong version says the same as the right step, None if it does not.

    A false fact or calculation has other numbers, or other words for what they mean. A rewording has neither.
    """
    if (invalid := check(wrong, [])) is not None:
        return invalid
    if check(wrong, [right]) is not None:
        return "same words as the right step"
    stated, answer = final_answer(wrong), final_answer(right)
    if answer is not None and kind != "empty":
        if stated is None:
            return "no final answer in place of one"
        return "same final answer" if equivalent(stated, answer) else None
    if kind != "calculation":
        return None
    results = _RESULT.search(body(wrong)), _RESULT.search(body(right))
    if results[0] and results[1] and equivalent(results[0][1], results[1][1]):
        return "same result"
    figures = _FIGURES.findall(body(right))
    return "same figures" if figures and figures == _FIGURES.findall(body(wrong)) else None


async def corrupt_chain(chain: Chain, attempts: Sequence[Attempt], folder: Path) -> Mapping[str, Any]:
    """Returns the result of a chain for the ledger: wrong versions of its steps, and why other steps have none.

    Raises:
        NoReplyError: The server does not answer; another run may finish the chain.
        LimitError: The budget is spent.
    """
    images = read_images(chain, folder)
    wrong: dict[int, WrongStep] = {}
    faults = {number: AttemptError("teacher", "no wrong version") for number in range(1, len(chain.steps) + 1)}
    for attempt in attempts:
        todo = [number for number in faults if number not in wrong]
        if not todo:
            break
        try:
            messages = prompts.corruption(chain, images, todo)
            reply = await attempt.ask(messages, WrongSteps, max_tokens=attempt.settings.chain_tokens)
            # comparing formulas may take seconds
            versions = await asyncio.to_thread(_different, chain, reply, todo, faults)
            wrong |= await _confirmed(attempt, chain, images, versions, faults)
        except AttemptError as fault:
            faults |= dict.fromkeys(todo, fault)
            if isinstance(fault, RefusedAttemptError):
                break
    missing = {str(number): fault for number, fault in faults.items() if number not in wrong}
    return {
        "pairs": [step.model_dump() for _, step in sorted(wrong.items())],
        "missing": {number: (fault.stage, fault.reason, fault.detail) for number, fault in missing.items()},
    }


def _different(
    chain: Chain, reply: WrongSteps, todo: list[int], faults: dict[int, AttemptError]
) -> dict[int, WrongStep]:
    """Returns the versions that differ from the right steps, and records the faults of the others."""
    versions: dict[int, WrongStep] = {}
    for step in reply.steps:
        if step.number not in todo or step.number in versions:
            continue
        text = without_label(step.text)
        reason = same_as_right(text, chain.steps[step.number - 1], step.kind)
        if reason is None:
            versions[step.number] = step.model_copy(update={"text": f"Step {step.number}: {text}"})
        else:
            faults[step.number] = AttemptError("format", reason, step.text)
    return versions


async def _confirmed(
    attempt: Attempt, chain: Chain, images: Images, versions: dict[int, WrongStep], faults: dict[int, AttemptError]
) -> dict[int, WrongStep]:
    """Returns the versions that all checks find wrong, and records the faults of the others."""
    for which in range(attempt.settings.checks):
        if not versions:
            break
        texts = {number: without_label(step.text) for number, step in versions.items()}
        messages = prompts.corruption_check(chain, images, texts, which)
        opinion = await attempt.ask(messages, Opinion, max_tokens=attempt.settings.step_tokens)
        for number in versions.keys() - set(opinion.wrong):
            text = versions.pop(number).text
            faults[number] = AttemptError("check", "the teacher's check does not call it wrong", text)
    return versions


def labelled_pairs(chain: Chain, result: Mapping[str, Any]) -> Iterator[tuple[str, Chain]]:
    """Yields a right and a wrong labelled chain for each corrupted step, with their kinds.

    Both end with the step and have one label, for that step: 1 for the right one and 0 for the wrong one.
    """
    for pair in result["pairs"]:
        number = pair["number"]
        versions = (("right", "right", chain.steps[number - 1], 1.0), ("wrong", pair["kind"], pair["text"], 0.0))
        for name, kind, step, label in versions:
            update = {
                "id": f"{chain.id}/{number}/{name}",
                "steps": (*chain.steps[: number - 1], step),
                "labels": (*(None,) * (number - 1), label),
                "corrections": None,
            }
            yield kind, chain.model_copy(update=update)
