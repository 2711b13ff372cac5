"""A run that can be killed: 200 scripted questions and a journal; every question that is begun is printed.

    python -m tests.runtime.killed FOLDER

imports neither torch nor lmms-eval, so that it starts in a blink.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from dataclasses import dataclass, field
from pathlib import Path as FilePath

from atomthink_plugin.api import Message, Outcome, Path, Proposal, Question, Result, Sampling, Score, Step, Usage
from atomthink_plugin.formats import Continue
from atomthink_plugin.runtime.journal import Journal
from atomthink_plugin.runtime.settings import Settings
from atomthink_plugin.runtime.thinker import Thinker
from atomthink_plugin.searches.beam import beam

QUESTIONS = [Question(f"q{i}", (Message("user", (f"What is the sum of figure {i}?",)),)) for i in range(200)]


@dataclass
class Slow:
    """A policy and a scorer whose samples depend on their seeds and whose replies take a while.

    Attributes:
        pause: Seconds a reply takes at most.
        shown: Whether the id of every question that is asked for its first step is printed.
    """

    pause: float = 0.0
    shown: bool = False
    chance: random.Random = field(default_factory=random.Random)
    identity: str = "slow"

    async def propose(self, path: Path, n: int, sampling: Sampling) -> Proposal:
        if self.shown and path.step is None:
            print(path.question.id, flush=True)
        await asyncio.sleep(self.pause * self.chance.random())
        steps = tuple(_step(path.depth + 1, random.Random(sampling.seed_of(path, i))) for i in range(n))
        return Proposal(steps, Usage(policy_calls=n, generated=3 * n, prefilled=path.depth, images=1))

    async def score(self, path: Path) -> Score:
        await asyncio.sleep(self.pause * self.chance.random())
        return Score(int(path.key, 16) / 2**64, Usage(score_calls=1, cached=7))


def _step(number: int, chance: random.Random) -> Step:
    told = chance.randrange(10)
    text = f"the final answer is: {told}" if number == 3 else f"read {told}"
    return Step(f"Step {number}: {text}.", (1, 2, 3), -1.0 - told)


def think(model: Slow, journal: Journal | None) -> list[Result]:
    """Answers all questions."""
    settings = Settings(Sampling(temperature=1.0))
    return Thinker(model, model, Continue(), beam(2, 3), settings, journal, concurrency=16).run(QUESTIONS)


def main() -> None:
    folder = FilePath(sys.argv[1])
    results = think(Slow(0.02, shown=True), Journal(folder, "run", {}))
    answers = [result.answer for result in results if isinstance(result, Outcome)]
    (folder / "answers.json").write_text(json.dumps(answers))


if __name__ == "__main__":
    main()
