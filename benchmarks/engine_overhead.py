"""What the engine itself costs: whole runs with a scripted policy and scorer that answer at once.

    python -m benchmarks.engine_overhead --json benchmarks/results/engine_overhead.json

It includes everything but the models: the search, step checks, answers, votes, budgets, the bookkeeping of the
tree, and the journal, on and off. Every question has a tree of its own, six steps deep, of steps as long as real ones.
A policy call is one candidate step, a request is one `propose` of one or several.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path as FilePath

from rich.console import Console
from rich.table import Table

from atomthink_plugin.api import (
    Message,
    Outcome,
    Path,
    Prompt,
    Proposal,
    Question,
    Sampling,
    Score,
    Search,
    Step,
    Usage,
)
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.runtime.journal import Journal
from atomthink_plugin.runtime.runner import Runner
from atomthink_plugin.runtime.settings import Settings
from atomthink_plugin.searches.beam import beam
from atomthink_plugin.searches.majority import majority
from benchmarks.provenance import provenance

DEPTH = 6
SEARCHES: dict[str, Search] = {"beam, B=2 C=3": beam(2, 3), "majority @8": majority(8)}
TEMPERATURES = {"beam, B=2 C=3": (0.0, 0.5), "majority @8": (1.0, 0.0)}


@dataclass
class Instant:
    """A policy and a scorer that answer at once; a sample's text depends on its seed, as a model's does."""

    identity: str = "instant"
    requests: int = 0

    async def propose(self, prompt: Prompt, n: int, sampling: Sampling) -> Proposal:
        self.requests += 1
        steps = tuple(step_of(prompt.depth, random.Random(sampling.seed_of(i))) for i in range(n))
        return Proposal(steps, Usage(policy_calls=n, generated=sum(len(step.token_ids) for step in steps)))

    async def score(self, path: Path) -> Score:
        return Score(int(path.key, 16) / 2**64, Usage(score_calls=1))


def step_of(depth: int, chance: random.Random) -> Step:
    """One of four next steps; the last states one of four answers."""
    k, a, b = depth + 1, depth + 12, chance.randrange(4)
    if k == DEPTH:
        text = f"Step {k}: To sum up, the final answer is: {b}.5 square units."
    else:
        text = (
            f"Step {k}: In triangle {'ABCDEF'[k - 1]} the side on the left is {a} and the one below it is {b}, so by "
            f"Pythagoras the third side is $\\sqrt{{{a}^2 + {b}^2}}$, which is $\\sqrt{{{a * a + b * b}}}$."
        )
    return Step(text, tuple(range(len(text) // 3)), -float(1 + b))


def questions(count: int) -> list[Question]:
    return [Question(f"q{i}", (Message("user", (f"What is the area of figure {i}?",)),)) for i in range(count)]


def measure(name: str, count: int, journal: Journal | None) -> dict[str, float]:
    """One run of `count` questions."""
    temperature, rise = TEMPERATURES[name]
    model = Instant()
    settings = Settings(Sampling(temperature, rise))
    runner = Runner(model, model, Continue(), SEARCHES[name], settings, journal=journal)
    asked = questions(count)
    started, worked = time.perf_counter(), time.process_time()
    results = runner.run(asked)
    seconds, worked = time.perf_counter() - started, time.process_time() - worked
    assert all(isinstance(result, Outcome) and result.answer for result in results)
    calls = sum(result.usage.policy_calls for result in results)
    return {
        "seconds": seconds,
        "cpu_seconds": worked,
        "ms_per_question": 1e3 * seconds / count,
        "ms_per_policy_call": 1e3 * seconds / calls,
        "ms_per_request": 1e3 * seconds / model.requests,
        "policy_calls": calls,
        "requests": model.requests,
    }


def runs(count: int, repeats: int) -> dict[str, dict[str, float]]:
    """Every search with the journal off and on; of several runs in turn, the median one."""
    measured: dict[str, list[dict[str, float]]] = {}
    for _ in range(repeats):
        for name in SEARCHES:
            measured.setdefault(f"{name}, journal off", []).append(measure(name, count, None))
            with tempfile.TemporaryDirectory() as folder:
                journal = Journal(FilePath(folder), "overhead", {})
                measured.setdefault(f"{name}, journal on", []).append(measure(name, count, journal))
                journal.close()
    return {name: sorted(rows, key=lambda row: row["seconds"])[len(rows) // 2] for name, rows in measured.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=FilePath)
    options = parser.parse_args()
    rows = runs(options.questions, options.repeats)
    grid = Table(title=f"{options.questions} questions, a model that answers at once")
    for heading in ("run", *next(iter(rows.values()))):
        grid.add_column(heading.replace("_", " "), justify="left" if heading == "run" else "right")
    for name, row in rows.items():
        grid.add_row(name, *(f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values()))
    Console(width=140).print(grid)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        rounded = {name: {key: round(value, 4) for key, value in row.items()} for name, row in rows.items()}
        record = {**provenance(), "questions": options.questions, **rounded}
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
