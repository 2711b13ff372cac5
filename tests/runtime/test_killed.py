"""A run that is killed again and again answers every question once, as if nothing had happened."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

from atomthink_plugin.api import Outcome, Usage
from tests.runtime.killed import QUESTIONS, Slow, think

KILLS = 20
ROOT = FilePath(__file__).parents[2]


def start(folder: FilePath, run: int) -> subprocess.Popen[bytes]:
    with (folder / f"begun{run}").open("w") as begun:
        return subprocess.Popen([sys.executable, "-m", "tests.runtime.killed", str(folder)], cwd=ROOT, stdout=begun)


def lines(folder: FilePath) -> list[bytes]:
    """All whole lines of the journal."""
    return [line for file in folder.glob("*/rank0.jsonl") for line in file.read_bytes().split(b"\n")[:-1] if line]


def asked(records: list[dict[str, Any]]) -> set[str]:
    return {record["question"] for record in records}


def test_a_run_killed_twenty_times_answers_every_question_once(tmp_path: FilePath) -> None:
    chance = random.Random(20)
    known: list[set[str]] = []
    for run in range(KILLS):
        known.append(asked([json.loads(line) for line in lines(tmp_path)]))
        # By what is written, not by the clock, so that kills are spread over the run on every machine; then a while.
        moment = 0.75 * len(QUESTIONS) * (run + chance.random()) / KILLS
        with start(tmp_path, run) as process:
            while process.poll() is None and len(lines(tmp_path)) < moment:
                time.sleep(0.001)
            time.sleep(0.03 * chance.random())
            process.kill()
        assert process.returncode == -signal.SIGKILL
    known.append(asked([json.loads(line) for line in lines(tmp_path)]))
    assert 0 < len(known[-1]) < len(QUESTIONS)
    with start(tmp_path, KILLS) as process:
        assert process.wait(60) == 0

    records = [json.loads(line) for line in lines(tmp_path)]
    assert Counter(record["question"] for record in records) == Counter(question.id for question in QUESTIONS)
    begun = [set((tmp_path / f"begun{run}").read_text().split()) for run in range(KILLS + 1)]
    assert not any(before & now for before, now in zip(known, begun, strict=True))
    assert sum(map(len, begun)) > len(QUESTIONS)  # what a kill cut off was begun again
    expected = think(Slow(), None)
    answers = [result.answer for result in expected if isinstance(result, Outcome)]
    assert json.loads((tmp_path / "answers.json").read_text()) == answers
    assert len(answers) == len(QUESTIONS)
    spent = [Usage(**record["outcome"]["usage"]) for record in records]
    assert total(spent) == total([result.usage for result in expected])


def total(spent: list[Usage]) -> Usage:
    return replace(sum(spent, Usage()), seconds=0.0)
