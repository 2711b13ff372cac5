"""A run that kills itself: 200 scripted questions with a journal. Every policy call is printed with its question.

    python -m tests.runtime.killed_run FOLDER SEARCH [FINISHED]

kills itself a moment after so many questions are finished, those of earlier runs included. It
imports neither torch nor lmms-eval, so that it starts in a blink.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path as FilePath

from atomthink_plugin.api import (
    Choice,
    Message,
    Outcome,
    Path,
    Prompt,
    Proposal,
    Question,
    QuestionError,
    Result,
    Sampling,
    Score,
    Search,
    SearchTree,
    Step,
    Usage,
)
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.runtime.journal import Journal
from atomthink_plugin.runtime.runner import Finished, Runner
from atomthink_plugin.runtime.settings import Settings
from atomthink_plugin.searches.beam import beam
from atomthink_plugin.searches.majority import majority

JUDGE = Prompt((Message("user", ("How good is the last step?",)),))


async def judged(tree: SearchTree) -> Choice:
    """Follows the step with the best verdict of a role."""
    path = tree.root
    while not path.final:
        (family,) = await tree.expand([path], 3)
        if not family:
            break
        verdicts = await asyncio.gather(*(tree.ask(child, JUDGE, use="judge", role="judge") for child in family))
        path = max(zip(verdicts, family, strict=True), key=lambda pair: ([one.key for one in pair[0]], pair[1].key))[1]
    return Choice(path, 0.0, tree.why(path))


QUESTIONS = [Question(f"q{i}", (Message("user", (f"What is the sum of figure {i}?",)),)) for i in range(200)]
SEARCHES: dict[str, Search] = {"beam": beam(2, 3), "majority": majority(4), "judged": judged}
CONCURRENCY = 16
DEPTH = 5
FAILING = {"q3", "q77", "q150"}
"""Questions whose third step fails in every run."""


@dataclass
class Slow:
    """A policy and a scorer whose samples depend on their seeds and whose replies take a while.

    Attributes:
        pause: Seconds a reply takes at most.
        shown: Whether every call is printed: the question and the number of samples.
        samples: How many were asked for.
    """

    pause: float = 0.0
    shown: bool = False
    samples: int = 0
    chance: random.Random = field(default_factory=random.Random)
    identity: str = "slow"

    async def propose(self, prompt: Prompt, n: int, sampling: Sampling) -> Proposal:
        self.samples += n
        if self.shown:
            print(prompt.session, n, flush=True)
        await asyncio.sleep(self.pause * self.chance.random())
        if prompt.session in FAILING and prompt.depth == 2:
            raise QuestionError("it has no third step")
        steps = tuple(_step(prompt.depth + 1, random.Random(sampling.seed_of(i))) for i in range(n))
        return Proposal(steps, Usage(policy_calls=n, generated=3 * n, prefilled=prompt.depth, images=1))

    async def score(self, path: Path) -> Score:
        await asyncio.sleep(self.pause * self.chance.random())
        return Score(int(path.key, 16) / 2**64, Usage(score_calls=1, cached=7))


def _step(number: int, chance: random.Random) -> Step:
    value = chance.randrange(10)
    if value < 3:
        return Step("", (1, 2, 3), -1.0)  # invalid, retried if all samples are
    text = f"the final answer is: {value}" if number == DEPTH else f"read {value}"
    return Step(f"Step {number}: {text}.", (1, 2, 3), -1.0 - value)


def think(
    model: Slow, search: str, journal: Journal | None, finished: Finished = lambda result, spent: None
) -> list[Result]:
    """Answers all questions."""
    settings = Settings(Sampling(temperature=1.0))
    runner = Runner(model, model, Continue(), SEARCHES[search], settings, journal, CONCURRENCY, roles={"judge": model})
    return runner.run(QUESTIONS, finished)


def main() -> None:
    folder, last = FilePath(sys.argv[1]), int(sys.argv[3]) if len(sys.argv) > 3 else len(QUESTIONS) + 1
    reached, done = threading.Event(), 0

    def finished(result: Result, spent: Usage | None) -> None:
        nonlocal done
        done += isinstance(result, Outcome)
        if done >= last:
            reached.set()

    def die() -> None:
        reached.wait()
        time.sleep(0.02 * random.random())  # at an arbitrary point of the work
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=die, daemon=True).start()
    results = think(Slow(0.02, shown=True), sys.argv[2], Journal(folder, "run", {}), finished)
    if last <= len(QUESTIONS):
        signal.pause()  # until the other thread has its turn
    answers = [result.answer if isinstance(result, Outcome) else None for result in results]
    (folder / "answers.json").write_text(json.dumps(answers))


if __name__ == "__main__":
    main()
