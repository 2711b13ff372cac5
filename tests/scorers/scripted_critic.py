"""A critic whose replies are scripted, with the habits of a real policy: stops, seeds and watched tokens."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from atomthink_plugin.api import Prompt, Proposal, Sampling, Step, Usage

Says = Callable[[Prompt, str], str]
"""Returns the reply to a prompt. The second argument is a number that differs between draws."""

Weighs = Callable[[Prompt], Mapping[str, float]]
"""Returns the probabilities of the next token."""


def text_of(prompt: Prompt) -> str:
    """All texts of a prompt, the beginning of the reply included."""
    parts = [part for turn in prompt.messages for part in turn.parts if isinstance(part, str)]
    return "\n".join([*parts, prompt.prefix])


@dataclass
class ScriptedCritic:
    """Writes critiques, and gives the probabilities of verdicts.

    Attributes:
        says: The text of a critique.
        weighs: The probabilities of the token after the critique.
        logprobs: Whether it gives log-probabilities.
        prompts: Everything that it was asked.
        pauses: Turns of the event loop before each reply, to change the order of replies.
    """

    says: Says = lambda prompt, draw: f"critique {draw}"
    weighs: Weighs = lambda prompt: {"Yes": 0.75, "No": 0.25}
    logprobs: bool = True
    prompts: list[tuple[Prompt, Sampling]] = field(default_factory=list)
    pauses: Callable[[Prompt], int] = lambda prompt: 0
    identity: str = "scripted critic"

    async def propose(self, prompt: Prompt, n: int, sampling: Sampling) -> Proposal:
        """Replies `n` times."""
        self.prompts.append((prompt, sampling))
        for _ in range(self.pauses(prompt)):
            await asyncio.sleep(0)
        steps = tuple(self._reply(prompt, sampling, index) for index in range(n))
        cost = sum(len(step.token_ids) for step in steps)
        images = len(prompt.images)
        return Proposal(steps, Usage(policy_calls=n, generated=cost, prefilled=len(text_of(prompt)), images=images))

    def _reply(self, prompt: Prompt, sampling: Sampling, index: int) -> Step:
        if sampling.watch:
            return self._verdict(self.weighs(prompt), sampling.watch)
        seed = sampling.seed_of(index) if sampling.temperature else 0
        text = self.says(prompt, f"{random.Random(seed).randrange(10**6)}")
        ends = [text.index(stop) for stop in prompt.stops if stop in text]
        words = len(text.split())
        if words > sampling.max_tokens:
            kept = " ".join(text.split()[: sampling.max_tokens])
            return Step(kept, (0,) * sampling.max_tokens, finish="length")
        return Step(text[: min(ends)] if ends else text, (0,) * words, finish="stop" if ends else "eos")

    def _verdict(self, weights: Mapping[str, float], watch: Sequence[str]) -> Step:
        likeliest = max(weights, key=lambda token: weights[token])
        step = Step(likeliest, (0,), finish="length")
        if not self.logprobs or not set(watch) & set(weights):
            return step
        least = min(weights.values())
        return replace(step, watched=tuple(math.log(weights.get(token, least)) for token in watch))

    @property
    def verdicts(self) -> list[Prompt]:
        """The prompts that asked for a verdict."""
        return [prompt for prompt, sampling in self.prompts if sampling.watch]

    @property
    def critiques(self) -> list[Prompt]:
        """The prompts that asked for a critique or a preparation."""
        return [prompt for prompt, sampling in self.prompts if not sampling.watch]
