"""A run that is killed many times answers every question once, with the results of an uninterrupted run."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

import pytest

from atomthink_plugin.api import Outcome, Usage
from tests.runtime.killed_run import CONCURRENCY, FAILING, QUESTIONS, Slow, think

pytestmark = pytest.mark.slow


EXPANSION = {"beam": 6, "majority": 4, "judged": 3}
"""Samples of one question that can be in flight: two paths by three, four chains, three steps or verdicts."""

ROOT = FilePath(__file__).parents[2]


def run_once(folder: FilePath, search: str, run: int, *finished: str) -> int:
    """Runs it until it ends or kills itself, and returns its exit status."""
    command = [sys.executable, "-m", "tests.runtime.killed_run", folder, search, *finished]
    with calls_file(folder, run).open("w") as calls:
        return subprocess.run(command, cwd=ROOT, stdout=calls, check=False).returncode


def calls_file(folder: FilePath, run: int) -> FilePath:
    return folder / f"calls{run}"


def calls(folder: FilePath, run: int) -> Counter[str]:
    """The number of requested samples of a run, by question."""
    asked = Counter[str]()
    for line in calls_file(folder, run).read_text().split("\n")[:-1]:  # a kill may tear the last one
        name, samples = line.split()
        asked[name] += int(samples)
    return asked


def journaled(folder: FilePath) -> list[dict[str, Any]]:
    """All complete records of the journal."""
    content = [file.read_bytes() for file in folder.glob("*/rank0.jsonl")]
    return [json.loads(line) for part in content for line in part.split(b"\n")[:-1] if line]


def done(records: list[dict[str, Any]]) -> set[str]:
    return {record["question"] for record in records if record["status"] == "done"}


@pytest.mark.parametrize(("search", "kills"), [("beam", 20), ("majority", 10), ("judged", 10)])
def test_a_run_killed_many_times_gives_the_results_of_one_run(search: str, kills: int, tmp_path: FilePath) -> None:
    chance = random.Random(20)
    known: list[set[str]] = []
    for run in range(kills):
        known.append(done(journaled(tmp_path)))
        # Counted in finished questions instead of seconds, so that kills are spread over the run on every machine.
        moment = 0.75 * len(QUESTIONS) * (run + chance.random()) / kills
        assert run_once(tmp_path, search, run, str(int(moment) + 1)) == -signal.SIGKILL
    known.append(done(journaled(tmp_path)))
    assert 0 < len(known[-1]) < len(QUESTIONS)
    assert run_once(tmp_path, search, kills) == 0

    model = Slow()
    expected = think(model, search, None)
    records = journaled(tmp_path)
    finished = [record for record in records if record["status"] == "done"]
    assert Counter(record["question"] for record in finished) == Counter(q.id for q in QUESTIONS if q.id not in FAILING)
    assert {record["question"] for record in records if record["status"] == "failed"} == FAILING
    asked = [calls(tmp_path, run) for run in range(kills + 1)]
    assert not any(before & now.keys() for before, now in zip(known, asked, strict=True))
    answers = [result.answer if isinstance(result, Outcome) else None for result in expected]
    assert json.loads((tmp_path / "answers.json").read_text()) == answers
    spent = [Usage(**record["outcome"]["usage"]) for record in finished]
    assert total(spent) == total([result.usage for result in expected if isinstance(result, Outcome)])

    # A kill repeats the requests in flight, and every run asks for the failing step.
    in_flight = kills * CONCURRENCY * EXPANSION[search]
    again = kills * len(FAILING) * EXPANSION[search]
    samples = sum(each.total() for each in asked)
    assert model.samples <= samples <= model.samples + in_flight + again


def total(spent: list[Usage]) -> Usage:
    return replace(sum(spent, Usage()), seconds=0.0)
