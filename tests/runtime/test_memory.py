"""The memory of a run with ten thousand questions holds only the questions in flight and the answers."""

from __future__ import annotations

import gc
import os
import random
import tracemalloc
from collections import Counter
from pathlib import Path as FilePath

import pytest

from atomthink_plugin.api import (
    Message,
    Node,
    Outcome,
    Path,
    Prompt,
    Proposal,
    Question,
    Result,
    Sampling,
    Score,
    Step,
    Usage,
)
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.runtime.journal import Journal
from atomthink_plugin.runtime.runner import Runner
from atomthink_plugin.runtime.tree import QuestionTree
from atomthink_plugin.searches.greedy import greedy
from tests.trees import settings

COUNT, EARLY, LATE = 10_000, 2_000, 9_000
TRACED = 5_000, 7_000, 8_000
"""Where tracing begins, and between which questions it counts: by then what is remembered has been exchanged."""
CONCURRENCY = 64
NODES = 4
"""Steps of a question's tree: two levels of two."""


class Lazy:
    """Questions that are built on demand."""

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> Question:
        return Question(f"q{index}", (Message("user", (f"Question number {index}?",)),))


class Instant:
    """A policy and scorer. Questions share no steps."""

    identity = "instant"

    async def propose(self, prompt: Prompt, n: int, sampling: Sampling) -> Proposal:
        name, depth = prompt.session, prompt.depth + 1
        end = "the road ends" if depth == 1 else "to sum up, the final answer is: 4"
        texts = [f"Step {depth}: On {'left' if i % 2 else 'right'} of {name} {end}." for i in range(n)]
        return Proposal(tuple(Step(text, (1, 2, 3), -1.0) for text in texts), Usage(policy_calls=n, generated=3 * n))

    async def score(self, path: Path) -> Score:
        return Score(random.Random(path.key).random(), Usage(score_calls=1))


def alive() -> Counter[type]:
    gc.collect()
    return Counter(type(each) for each in gc.get_objects())


class Census:
    """Counts live objects at some questions, and bytes over a few thousand questions, because tracing is slow."""

    def __init__(self) -> None:
        self.done = 0
        self.before = alive()  # other tests' modules have questions of their own
        self.alive: dict[int, Counter[type]] = {}
        self.bytes: list[int] = []

    def finished(self, result: Result, spent: Usage | None) -> None:
        assert isinstance(result, Outcome)
        assert len(result.nodes) == NODES
        self.done += 1
        if self.done in (EARLY, LATE):
            self.alive[self.done] = alive() - self.before
        if self.done == TRACED[0]:
            tracemalloc.start()
        if self.done in TRACED[1:]:
            gc.collect()
            self.bytes.append(tracemalloc.get_traced_memory()[0])
        if self.done == TRACED[-1]:
            tracemalloc.stop()


@pytest.mark.slow
def test_ten_thousand_questions_leave_their_answers_in_memory_and_nothing_else(
    tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda file: None)
    journal, census, model = Journal(tmp_path, "run", {}), Census(), Instant()
    runner = Runner(model, model, Continue(), greedy(2), settings(), journal, CONCURRENCY)
    results = runner.run(Lazy(), census.finished)
    assert len(results) == len(journal) == COUNT
    for living in census.alive.values():
        assert 0 < max(living[Question], living[QuestionTree]) <= CONCURRENCY
        # The questions in flight, and each worker's last outcome.
        assert 0 < max(living[Path], living[Node] / 2) <= CONCURRENCY * (NODES + 1)
    grown = {kind: more for kind, more in (census.alive[LATE] - census.alive[EARLY]).items() if more > 10 * CONCURRENCY}
    # An outcome, its cost, and the place of its record. (Tuples of text alone are unknown to the collector.)
    assert grown.keys() <= {Outcome, Usage, tuple}
    assert max(grown.values()) <= LATE - EARLY + CONCURRENCY
    assert census.bytes[1] - census.bytes[0] < 1_500 * (TRACED[2] - TRACED[1])
