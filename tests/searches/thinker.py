"""A scripted policy for every search and format: it writes steps, stages, verdicts, plans and reviews."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from atomthink_plugin.api import Path, Prompt, Proposal, Sampling, Score, Usage
from atomthink_plugin.runtime.batcher import MicroBatcher
from atomthink_plugin.runtime.partial_log import request_of
from atomthink_plugin.testing import ScriptedPolicy, history_of

LAST = 4
"""The step that concludes at the latest."""

THINGS = ("the angle", "the circle", "the table", "the square")

Request = tuple[str, str]
"""A question's id and the name of one of its requests, see `request_of`."""


def replies(prompt: Prompt, use: str) -> Mapping[str, float]:
    """Returns the replies to a prompt and their probabilities, which depend on all of its text.

    Args:
        prompt: The prompt.
        use: What it is asked for, see `SearchTree.ask`; empty for a unit of a chain.
    """
    turns = "".join(part for turn in prompt.messages for part in turn.parts if isinstance(part, str))
    chance = random.Random(turns + prompt.prefix)
    if use:
        texts = [_aside(chance) for _ in range(3)]
    elif prompt.stops and prompt.stops[0].startswith("</"):
        texts = [f"I look at {thing}. It is {chance.randrange(3)}." for thing in THINGS[:3]]
    else:
        texts = [_step(prompt.depth + 1, chance) for _ in range(3)]
    return {text: chance.uniform(0.1, 1.0) for text in texts}


def _step(number: int, chance: random.Random) -> str:
    thing, value = chance.choice(THINGS), chance.randrange(3)
    if number >= LAST or (number > 1 and chance.random() < 0.3):
        return f"Step {number}: To sum up {thing}, the final answer is: {value}."
    return f"Step {number}: I look at {thing} and read {value + number}."


def _aside(chance: random.Random) -> str:
    """Returns a reply with a verdict of every kind, a list, and a final answer."""
    lines = [f"{k}. How large is {thing}?" for k, thing in enumerate(chance.sample(THINGS, 2), start=1)]
    first, second = chance.sample((1, 2), 2)
    verdict = chance.choice(("It is correct.", "It is wrong.", "correct", "incorrect", "I cannot tell."))
    chosen = f"Since it is clearer, I choose response [{first}]. Best: {first}. Ranking: {first}, {second}."
    answer = f"To sum up, the final answer is: {chance.randrange(3)}."
    return "\n".join([*lines, chance.choice((chosen, "Both are good.")), verdict, answer])


@dataclass
class Thinker:
    """Draws from `replies`. Its samples depend on their prompts and seeds alone.

    Attributes:
        delay: Turns of the event loop that a call takes.
        fails: Called before each reply. It may raise the error of a broken model.
        batches: Requests of one batch; 0 answers each request alone.
        likely: Whether it gives log-probabilities and the likeliest tokens.
        asked: The requests so far.
        answered: Those that it answered.
        samples: How many samples were asked for.
        draws: These samples: the node, the purpose, the index and the attempt.
        uses: What its requests were for.
    """

    delay: Callable[[], int] = lambda: 0
    fails: Callable[[], None] = lambda: None
    batches: int = 0
    likely: bool = True
    asked: Counter[Request] = field(default_factory=Counter)
    answered: Counter[Request] = field(default_factory=Counter)
    samples: int = 0
    draws: Counter[tuple[str, str, int, int]] = field(default_factory=Counter)
    uses: set[str] = field(default_factory=set)
    identity: str = "thinker"

    def __post_init__(self) -> None:
        self._batcher = MicroBatcher[tuple[Prompt, int, Sampling], Proposal](self._batch, max(self.batches, 1))

    async def propose(self, prompt: Prompt, n: int, sampling: Sampling) -> Proposal:
        request = prompt.session, request_of("", prompt, n, sampling, ())
        self.asked[request] += 1
        self.samples += n
        self.draws.update((sampling.key, sampling.use, sampling.first + i, sampling.attempt) for i in range(n))
        self.uses.add(sampling.use.partition("#")[0])
        for _ in range(self.delay()):
            await asyncio.sleep(0)
        self.fails()
        asked = prompt, n, sampling
        proposal = await (self._batcher.submit(asked, prompt.depth) if self.batches else self._draw(*asked))
        self.answered[request] += 1
        return proposal

    def _batch(self, requests: Sequence[tuple[Prompt, int, Sampling]]) -> list[Proposal]:
        async def draw() -> list[Proposal]:
            return [await self._draw(*request) for request in requests]

        return asyncio.run(draw())

    async def _draw(self, prompt: Prompt, n: int, sampling: Sampling) -> Proposal:
        policy = ScriptedPolicy(partial(replies, use=sampling.use))
        proposal = await policy.propose(prompt, n, sampling)
        if self.likely:
            return proposal
        return replace(proposal, steps=tuple(replace(step, logprob=None, tops=()) for step in proposal.steps))


def by_digest(path: Path) -> float:
    """Returns a score that depends on the whole path."""
    return random.Random(f"{path.question.id} {history_of(path)}").random()


@dataclass
class Scorer:
    """Scores steps by a function of the path.

    Attributes:
        worth: The function.
        asked: The requests so far: the question and the steps.
    """

    worth: Callable[[Path], float] = by_digest
    asked: Counter[Request] = field(default_factory=Counter)
    identity: str = "scorer"

    async def score(self, path: Path) -> Score:
        self.asked[path.question.id, history_of(path)] += 1
        return Score(self.worth(path), Usage(score_calls=1))
