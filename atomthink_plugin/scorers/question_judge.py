"""The scorer of one question that asks a critic: it samples critiques and reads the probability of their verdicts."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from atomthink_plugin.api import (
    AtomThinkError,
    Message,
    Path,
    Policy,
    Prompt,
    Question,
    QuestionError,
    Sampling,
    Score,
    Step,
    Usage,
)
from atomthink_plugin.scorers.critic_profile import CriticProfile, Critique, Preparation, render
from atomthink_plugin.scorers.critic_prompts import CriticPrompts, json_object, stated

log = logging.getLogger(__name__)


@dataclass
class UnreadReplies:
    """Counts of replies that could not be read.

    Attributes:
        verdicts: Verdicts that were asked for.
        unread: Verdicts that could not be read.
        facts: Descriptions of a question that could not be read.
    """

    verdicts: int = 0
    unread: int = 0
    facts: int = 0


@dataclass(frozen=True, slots=True)
class CritiqueVerdict:
    """The verdict of one critique.

    Attributes:
        value: The probability that the step is right, or the profile's `failure`.
        critique: The text of the critique.
        reply: The whole reply, verdict included.
        read: Whether the verdict could be read.
    """

    value: float
    critique: str
    reply: str
    read: bool


class QuestionJudge:
    """Judges the steps of one question. It remembers replies that several steps need.

    Args:
        identity: Distinguishes its scores from those of other scorers.
        profile: How the critic is asked and read.
        critic: The policy that is asked.
        seed: Seed of the critiques.
        tally: Counts unreadable replies.
    """

    def __init__(self, identity: str, profile: CriticProfile, critic: Policy, seed: int, tally: UnreadReplies) -> None:
        self.identity = identity
        self._critique: Critique = profile.critique
        self._prompts = CriticPrompts(profile)
        self._critic = critic
        self._seed = seed
        self._tally = tally
        self._remembered: dict[str, asyncio.Task[Any]] = {}
        self._unpaid = Usage()

    async def score(self, path: Path) -> Score:
        """Scores the last step of `path`, or all its steps together if the profile's scope is `prefix`.

        Raises:
            QuestionError: The critic cannot be asked about it.
            AtomThinkError: The path has no step.
        """
        verdicts = await self._verdicts(path)
        return self._paid(fmean(verdict.value for verdict in verdicts), _reason(verdicts), 1)

    async def _verdicts(self, path: Path) -> list[CritiqueVerdict]:
        """Returns the verdicts of all samples on the last step of `path`. They are asked for once."""
        if path.step is None:
            raise AtomThinkError("a root has no step to judge")
        verdicts: list[CritiqueVerdict] = await self._once(path.key, lambda: self._judge(path))
        return verdicts

    async def _judge(self, path: Path) -> list[CritiqueVerdict]:
        messages, values = await self._chat(path)
        return await self._judged(path, messages, values, path.key)

    async def _chat(self, path: Path) -> tuple[tuple[Message, ...], dict[str, Any]]:
        """Returns the turns that ask about the last step of `path`, and the values they were rendered with."""
        facts, about = await self._facts(path.question), self._critique
        turns = list(self._prompts.system(about.system))
        for node in path.lineage[:-1] if about.turns else ():
            turns.append(self._prompts.user(about.prompt, self._prompts.values(node, facts=facts), path.question))
            turns.append(Message("assistant", ((await self._verdicts(node))[0].reply,)))
        values = self._prompts.values(path, facts=facts)
        return (*turns, self._prompts.user(about.prompt, values, path.question)), values

    async def _judged(
        self, path: Path, messages: tuple[Message, ...], values: dict[str, Any], key: str
    ) -> list[CritiqueVerdict]:
        """Samples critiques and reads their verdicts."""
        critiques = await self._critiques(path, messages, values, key)
        begin = render(self._critique.begin, values)
        return await asyncio.gather(
            *(self._verdict(path, messages, begin, step, f"{key}\0{at}") for at, step in enumerate(critiques))
        )

    async def _critiques(
        self, path: Path, messages: tuple[Message, ...], values: dict[str, Any], key: str
    ) -> Sequence[Step]:
        about = self._critique
        if about.max_tokens == 0:
            return (Step(""),)
        begin = render(about.begin, values)
        stops = tuple(render(stop, values) for stop in about.stop)
        prompt = Prompt(messages, (begin,) if begin else (), stops)
        sampling = Sampling(
            temperature=about.temperature, top_p=about.top_p, top_k=about.top_k, max_tokens=about.max_tokens
        )
        return await self._ask(path, prompt, about.samples, sampling, "critique", key)

    async def _verdict(
        self, path: Path, messages: tuple[Message, ...], begin: str, critique: Step, key: str
    ) -> CritiqueVerdict:
        """Reads the verdict of a critique from the probabilities of one token."""
        about = self._critique
        stopped = critique.finish == "stop" or about.ask_unstopped is None
        ask = about.ask if stopped else str(about.ask_unstopped)
        if about.ask_as == "user":
            said = Message("assistant", (begin + critique.text,))
            prompt = Prompt((*messages, said, Message("user", (ask,))))
        else:
            prompt = Prompt(messages, tuple(filter(None, (begin, critique.text, ask))))
        (step,) = await self._ask(path, prompt, 1, Sampling(max_tokens=1, watch=about.verdict), "verdict", key)
        value = self._value(step)
        self._tally.verdicts += 1
        self._tally.unread += value is None
        if value is None and self._tally.unread == 1:
            found = f"the critic's verdict {step.text!r:.60} is none of {about.verdict}"
            log.warning("%s and counts as %g; further ones are counted", found, about.failure)
        word = about.verdict[0 if (value or 0.0) >= 0.5 else 1]
        reply = f"{begin}{critique.text}{ask}{word}{about.close}"
        return CritiqueVerdict(about.failure if value is None else value, critique.text, reply, value is not None)

    def _value(self, step: Step) -> float | None:
        """Returns the probability of the good verdict, None if the critic's reply is no verdict."""
        if step.watched:
            good, bad = step.watched
            return 1 / (1 + math.exp(min(bad - good, 700.0)))
        index = stated(step.text, self._critique.verdict)
        return None if index is None else float(index == 0)

    async def _facts(self, question: Question) -> str:
        """Returns the reply to the profile's request about the question, which is sent once.

        A request about images is not sent for a question without any.
        """
        request = self._critique.facts
        if request is None or ("images" in request.prompt and not question.images):
            return "" if request is None else request.fallback
        asked = request
        facts: str = await self._once("facts", lambda: self._prepared(asked, Path(question), "facts"))
        return facts

    async def _prepared(self, request: Preparation, path: Path, key: str, **values: Any) -> str:
        turn = self._prompts.user(request.prompt, self._prompts.values(path, **values), path.question)
        prompt = Prompt((*self._prompts.system(request.system), turn), stops=request.stop)
        sampling = Sampling(temperature=request.temperature, top_p=request.top_p, max_tokens=request.max_tokens)
        (step,) = await self._ask(path, prompt, 1, sampling, key.partition("\0")[0], key)
        if not request.json_object:
            return step.text.strip()
        found = json_object(step.text)
        self._tally.facts += found is None
        return request.fallback if found is None else found

    async def _ask(
        self, path: Path, prompt: Prompt, n: int, sampling: Sampling, use: str, key: str
    ) -> tuple[Step, ...]:
        """Asks the critic. Its draws depend on the path and on the index of the sample alone."""
        prompt = replace(prompt, session=path.question.id, depth=path.depth)
        sampling = replace(sampling, seed=self._seed, key=f"{path.question.id}\0{key}", use=use)
        proposal = (await self._critic.propose(prompt, n, sampling)).redacted()
        self._unpaid += proposal.usage.as_judged()
        if not proposal.steps:
            raise QuestionError(f"the {use} does not fit into the context of the critic {self._critic.identity}")
        return proposal.steps

    async def _once(self, name: str, make: Callable[[], Awaitable[Any]]) -> Any:
        """Returns what `make` returns. It is called once for each name, unless it fails."""
        task = self._remembered.get(name)
        if task is None or task.cancelled() or (task.done() and task.exception() is not None):
            task = self._remembered[name] = asyncio.ensure_future(make())
        return await task

    def _paid(self, value: float, reason: str, steps: int) -> Score:
        """Returns a score with the cost of all requests since the last score."""
        cost, self._unpaid = self._unpaid, Usage()
        return Score(value, cost + Usage(score_calls=steps), reason)


class ChainJudge(QuestionJudge):
    """Judges each step of a finished chain after one thought about the whole chain."""

    async def score(self, path: Path) -> Score:
        """Refuses, because this critic reads whole chains.

        Raises:
            AtomThinkError: Always.
        """
        raise AtomThinkError("this critic reads whole chains: use `score_chain`, or a search over whole chains")

    async def score_chain(self, path: Path) -> list[Score]:
        """Scores all steps of `path`. The cost is in the first score."""
        about, thought = self._critique, self._critique.thought
        assert thought is not None
        facts = await self._facts(path.question)
        thinking = await self._prepared(thought, path, f"thought\0{path.key}", facts=facts)
        found: list[Score] = []
        for k, node in enumerate(path.lineage, 1):
            known = tuple(int(score.value >= 0.5) for score in found)
            own = {"step": node.steps[-1].text, "k": k, "verdicts": known, "thought": thinking, "facts": facts}
            values = self._prompts.values(path, **own)
            messages = (*self._prompts.system(about.system), self._prompts.user(about.prompt, values, path.question))
            verdicts = await self._judged(path, messages, values, f"{path.key}\0{k}")
            found.append(Score(fmean(verdict.value for verdict in verdicts), reason=_reason(verdicts)))
        first = self._paid(found[0].value, f"{thinking}\n\n{found[0].reason}", len(found))
        return [first, *found[1:]]


def _reason(verdicts: Sequence[CritiqueVerdict]) -> str:
    """Returns the critiques with their verdicts, as a person reads them."""
    lines = []
    for at, verdict in enumerate(verdicts, 1):
        found = f"{verdict.value:.3f}" if verdict.read else f"could not be read, counts as {verdict.value:g}"
        name = f"verdict {at} of {len(verdicts)}" if len(verdicts) > 1 else "verdict"
        lines.append("\n".join(filter(None, (verdict.critique.strip(), f"[{name}: {found}]"))))
    return "\n\n".join(lines)
