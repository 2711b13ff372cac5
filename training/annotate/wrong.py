"""`atomthink annotate --way wrong`: wrong versions of right steps, as AtomThink's PRM data has them.

Source: AtomThink (arXiv 2411.11930). Unlike there, a wrong version is compared with the right step and, where checks
are asked for, looked at by the teacher again before it counts as one.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final, Literal

from atomthink_plugin.answers import equivalent, final_answer
from atomthink_plugin.api import QuestionError
from atomthink_plugin.formats.steps import body, check
from atomthink_plugin.training.annotate import prompts
from atomthink_plugin.training.annotate.annotating import digest_of
from atomthink_plugin.training.annotate.engine import Engine, Finished, Task
from atomthink_plugin.training.annotate.filters import Stage, tidy
from atomthink_plugin.training.annotate.outputs import Lost, Made
from atomthink_plugin.training.annotate.prompts import Pictures
from atomthink_plugin.training.annotate.solving import AttemptSettings, Try
from atomthink_plugin.training.annotate.teacher import LostError, NonsenseError, Reply, Teacher
from atomthink_plugin.training.records import Chain, RecordFile, read_images

WAY: Final = "wrong"

Kind = Literal["factual", "calculation", "logic", "empty"]

_VALUE: Final = re.compile(r"=\s*([^=\n]+?)\s*[.;]?\s*\Z")
_FIGURES: Final = re.compile(r"\d+(?:[.,]\d+)*|[-+*/=<>^√]")


class WrongStep(Reply):
    """A wrong version of one step."""

    number: int
    kind: Kind
    text: str


class WrongSteps(Reply):
    """Wrong versions of the steps that were asked for."""

    steps: list[WrongStep]


class Opinion(Reply):
    """Which versions are wrong, by their numbers."""

    wrong: list[int]


def same(wrong: str, right: str, kind: Kind) -> str | None:
    """Returns why a wrong version is none: it says what the right step says. None if it does not.

    A false fact or calculation has other figures or other words for what they are of; mere rewording has neither.
    """
    if check(wrong, []) is not None:
        return check(wrong, [])
    if check(wrong, [right]) is not None:
        return "same words as the right step"
    answers = final_answer(wrong), final_answer(right)
    if answers[1] is not None and kind != "empty":
        if answers[0] is None:
            return "no final answer in the place of one"
        return "same final answer" if equivalent(answers[0], answers[1]) else None
    values = _VALUE.search(body(wrong)), _VALUE.search(body(right))
    if kind == "calculation" and values[0] and values[1] and equivalent(values[0][1], values[1][1]):
        return "same result"
    figures = _FIGURES.findall(body(right))
    return "same figures" if kind == "calculation" and figures and figures == _FIGURES.findall(body(wrong)) else None


async def spoil(
    teacher: Teacher, about: str, chain: Chain, shown: Pictures, settings: AttemptSettings
) -> Mapping[str, Any]:
    """Returns wrong versions of a chain's steps, and why others have none.

    Raises:
        LostError: The server does not answer; the chain is to be asked about again.
        LimitError: The spending limit is reached.
    """
    pairs: dict[int, WrongStep] = {}
    why = dict.fromkeys(range(1, len(chain.steps) + 1), ("teacher", "no wrong version", ""))
    for index in range(settings.tries):
        attempt = Try(teacher, about, settings, index)
        open_numbers = [number for number in why if number not in pairs]
        if not open_numbers:
            break
        try:
            asked = prompts.wrong_steps(chain.question, shown, chain.steps, open_numbers)
            reply = await attempt.ask(asked, WrongSteps, tokens=settings.chain_tokens)
            fresh = await asyncio.to_thread(_differing, chain, reply, open_numbers, why)  # formulas may take seconds
            pairs |= await _confirmed(attempt, chain, shown, fresh, why)
        except LostError:
            raise
        except NonsenseError as error:
            why |= {number: ("teacher", "no usable reply", str(error)) for number in open_numbers}
        except QuestionError as error:
            why |= {number: ("teacher", "refuses the request", str(error)) for number in open_numbers}
            break
    return {
        "pairs": [pair.model_dump() for _, pair in sorted(pairs.items())],
        "missing": {str(number): reason for number, reason in why.items() if number not in pairs},
    }


def _differing(
    chain: Chain, reply: WrongSteps, asked: Sequence[int], why: dict[int, tuple[str, str, str]]
) -> dict[int, WrongStep]:
    """Returns the versions that differ from the right steps, and notes why others do not count."""
    fresh: dict[int, WrongStep] = {}
    for step in reply.steps:
        if step.number not in asked or step.number in fresh:
            continue
        text = tidy(step.text)
        reason = same(text, chain.steps[step.number - 1], step.kind)
        if reason is None:
            fresh[step.number] = step.model_copy(update={"text": f"Step {step.number}: {text}"})
        else:
            why[step.number] = ("format", reason, step.text)
    return fresh


async def _confirmed(
    attempt: Try, chain: Chain, shown: Pictures, fresh: dict[int, WrongStep], why: dict[int, tuple[str, str, str]]
) -> dict[int, WrongStep]:
    """Returns the versions that all checks call wrong, and notes which they do not."""
    for which in range(attempt.settings.checks):
        if not fresh:
            break
        versions = [(number, tidy(step.text)) for number, step in sorted(fresh.items())]
        asked = prompts.spoilt(chain.question, shown, chain.steps, versions, which)
        opinion = await attempt.ask(asked, Opinion, tokens=attempt.settings.step_tokens)
        for number in fresh.keys() - set(opinion.wrong):
            why[number] = ("check", "the teacher's check does not call it wrong", fresh[number].text)
        fresh = {number: step for number, step in fresh.items() if number in opinion.wrong}
    return fresh


async def annotate_wrong(
    found: RecordFile[Chain],
    sources: Mapping[str, str],
    names: Mapping[str, str],
    teacher: Teacher,
    engine: Engine,
    settings: AttemptSettings,
) -> tuple[Made, Finished]:
    """Asks a teacher for a wrong version of every step, and returns both as labelled chains.

    The right step behind its history is one chain with the label 1, the wrong one another with 0; earlier steps
    have no label, so that every chain tells one thing.

    Args:
        found: Right chains; those with a step that is labelled wrong are set aside.
        sources: Where they are from, by their ids.
        names: Where their images are, by their names, relative to the output's folder.
        teacher: Who is asked.
        engine: How many at the same time, and where it is kept.
        settings: How hard each is tried.
    """
    chains, lost = _usable(found)
    asked = len(lost) + sum(len(chain.steps) for chain in chains)
    told = {"way": WAY, "teacher": teacher.model, **asdict(settings)}
    keys = [f"{chain.id}#{digest_of([told, chain.model_dump()])}" for chain in chains]

    def task(chain: Chain, key: str) -> Task:
        async def work() -> Mapping[str, Any]:
            return await spoil(teacher, key, chain, read_images(chain, found.folder), settings)

        return Task(key, work)

    done = await engine.run([task(chain, key) for chain, key in zip(chains, keys, strict=True)])
    labelled: list[Chain] = []
    kinds: dict[str, dict[str, Any]] = {}
    for chain, key in zip(chains, keys, strict=True):
        moved = chain.model_copy(update={"images": tuple(names[image] for image in chain.images)})
        result = done.results.get(key)
        if result is None:
            stage: Stage = "server" if key in done.lost else "unfinished"
            reason = "no reply" if key in done.lost else "the run ended before"
            lost += [
                Lost(f"{chain.id}/{number}", stage, reason, done.lost.get(key, ""))
                for number in range(1, len(chain.steps) + 1)
            ]
            continue
        for pair in result["pairs"]:
            right, wrong = _pair(moved, pair["number"], pair["text"])
            labelled += [right, wrong]
            about = {"way": WAY, "teacher": teacher.model, "source": sources.get(chain.id, "")}
            kinds[right.id], kinds[wrong.id] = {**about, "kind": "right"}, {**about, "kind": pair["kind"]}
        for number, (at, reason, detail) in result["missing"].items():
            record = {"right": chain.steps[int(number) - 1]}
            lost.append(Lost(f"{chain.id}/{number}", at, reason, detail, record))
    return Made(asked, len(labelled) // 2, labelled, kinds, lost), done


def _usable(found: RecordFile[Chain]) -> tuple[list[Chain], list[Lost]]:
    """Returns the chains without a step that is labelled wrong, and why the other records are set aside."""
    lost = [Lost(one.where, "input", "no chain", one.reason, {"record": one.record}) for one in found.rejects]
    usable = []
    for chain in found.records:
        error = None if chain.labels is None else chain.first_error()
        if error is None:
            usable.append(chain)
        else:
            record = chain.model_dump(exclude_none=True)
            lost.append(Lost(chain.id, "input", "a step is labelled wrong", f"step {error + 1}", record))
    return usable, lost


def _pair(chain: Chain, number: int, wrong: str) -> tuple[Chain, Chain]:
    """Returns the beginning of a chain up to a step, with the step as it is and with its wrong version."""
    history, unknown = chain.steps[: number - 1], (None,) * (number - 1)
    ends = {"right": (chain.steps[number - 1], 1.0), "wrong": (wrong, 0.0)}
    right, false = (
        chain.model_copy(
            update={
                "id": f"{chain.id}/{number}/{name}",
                "steps": (*history, step),
                "labels": (*unknown, label),
                "corrections": None,
            }
        )
        for name, (step, label) in ends.items()
    )
    return right, false
