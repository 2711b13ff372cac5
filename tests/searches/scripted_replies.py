"""A scripted policy that answers any prompt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from atomthink_plugin.api import Prompt, Proposal, Sampling, Step, Usage

Replies = Callable[[Prompt, int, int], "str | Step"]
"""The reply to a prompt, by the sample's index and its seed."""


@dataclass
class ScriptedReplies:
    """Writes what a function says, up to the first stop string or the token limit; a word is a token.

    Attributes:
        reply: The function; a text that no stop string ends was ended by the model.
        stops: Whether it knows stop strings.
        asked: Prompts so far, once for each sample.
        samplings: How they were to be sampled.
    """

    reply: Replies
    stops: bool = True
    asked: list[Prompt] = field(default_factory=list)
    samplings: list[Sampling] = field(default_factory=list)
    identity: str = "replies"

    async def propose(self, prompt: Prompt, n: int, sampling: Sampling) -> Proposal:
        """Writes `n` replies."""
        self.asked += [prompt] * n
        self.samplings += [sampling] * n
        steps = tuple(self._step(prompt, i, sampling) for i in range(n))
        return Proposal(steps, Usage(policy_calls=n, generated=sum(len(step.token_ids) for step in steps)))

    def _step(self, prompt: Prompt, i: int, sampling: Sampling) -> Step:
        step = self.reply(prompt, sampling.first + i, sampling.seed_of(i))
        if isinstance(step, Step):
            return step
        ends = [step.index(stop) for stop in prompt.stops if stop in step] if self.stops else []
        words = step[: min(ends, default=None)].split(" ")
        if len(words) > sampling.max_tokens:
            cut = words[: sampling.max_tokens]
            return Step(" ".join(cut).strip(), tuple(range(len(cut))), -1.0, "length")
        text = " ".join(words).strip()
        return Step(text, tuple(range(len(words))), -1.0, "stop" if ends else "eos")
