"""Scores: as a search computes them, continued after a kill, and never those of another PRM."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path as FilePath

import pytest

from atomthink_plugin.api import AtomThinkError, Path, QuestionError, Score
from atomthink_plugin.runtime.solution_scores import GivenSolution, ScoreFile, score_solutions
from tests.runtime.killed_scoring import CHAINS, UNREADABLE, Scripted, solution

ROOT = FilePath(__file__).parents[2]
KILLS = 3


def start(folder: FilePath, run: int, *chains: str) -> int:
    """Scores until so many more chains are written; returns the exit status."""
    command = [sys.executable, "-m", "tests.runtime.killed_scoring", str(folder), *chains]
    with (folder / f"asked{run}").open("w") as asked:
        return subprocess.run(command, cwd=ROOT, stdout=asked).returncode


def finished(folder: FilePath) -> list[str]:
    """Chains whose scores are on disk."""
    file = folder / "scores.jsonl"
    lines = file.read_bytes().split(b"\n") if file.exists() else []
    return [json.loads(line)["id"] for line in lines if b'"scores": [' in line]


def test_a_killed_run_continues_to_the_same_scores(tmp_path: FilePath) -> None:
    known: list[set[str]] = []
    for run in range(KILLS):
        known.append(set(finished(tmp_path)))
        assert start(tmp_path, run, "14") == -signal.SIGKILL
        if run == 1:
            with (tmp_path / "scores.jsonl").open("ab") as file:
                file.write(b'{"key": "torn')
    known.append(set(finished(tmp_path)))
    assert len(known[-1]) >= 14 * KILLS - KILLS  # less the failures, which are tried again
    assert start(tmp_path, KILLS) == 0

    for run, before in enumerate(known):
        asked = Counter((tmp_path / f"asked{run}").read_text().split())
        assert max(asked.values()) == 1
        assert not before & {step.partition("/")[0] for step in asked}
    given = json.loads((tmp_path / "scores.json").read_text())
    expected = score_solutions(CHAINS, Scripted())
    assert list(given.values()) == [one if isinstance(one, str) else list(one) for one in expected]
    assert given[UNREADABLE] == "step 3: too long"
    assert Counter(finished(tmp_path)) == Counter(one.id for one in CHAINS[:-1])


@pytest.mark.parametrize("content", ['{"prm": {"prm": "first"}}\n', "Dear diary,\n", '\n{"prm": {"prm": "second"}}\n'])
def test_a_file_of_another_prm_or_of_something_else_is_refused_and_left_alone(content: str, tmp_path: FilePath) -> None:
    file = tmp_path / "scores.jsonl"
    file.write_text(content)
    for _ in range(2):  # the refusal unlocks the file
        with pytest.raises(AtomThinkError, match="--scores"):
            ScoreFile(file, {"prm": "second"})
    assert file.read_text() == content


def test_a_file_of_an_earlier_version_is_continued(tmp_path: FilePath) -> None:
    item, other = solution("a", 2), solution("b", 1)
    file = tmp_path / "scores.jsonl"
    file.write_text(
        '{"prm": {"kind": "prm_token", "prm": "x", "weights": "2c26"}}\n'
        '{"key": "c2a30eeb084627c8778578b4", "id": "a", "scores": [0.25, 1.0]}\n'
        '{"key": "torn", "id"\n'
        f'{{"key": "{other.key()}", "id": "b", "failure": "step 1: too long"}}\n'
    )
    again = ScoreFile(file, {"kind": "prm_token", "prm": "x", "weights": "2c26"})
    assert again.get(item, item.key()) == (0.25, 1.0)
    assert again.get(other, other.key()) is None
    again.put(other, other.key(), [0.5])
    again.close()
    assert [json.loads(line)["id"] for line in file.read_bytes().splitlines() if b"scores" in line] == ["a", "b"]


def test_scores_belong_to_what_was_read_and_not_to_a_name(tmp_path: FilePath) -> None:
    one, other = solution("a", 1), solution("b", 1)
    same = GivenSolution("another name", one.question, one.steps)
    file = ScoreFile(tmp_path / "scores.jsonl", {})
    file.put(one, one.key(), [0.25])
    file.close()
    again = ScoreFile(tmp_path / "scores.jsonl", {})
    assert again.get(same, same.key()) == (0.25,)
    assert again.get(other, other.key()) is None


def test_a_score_that_is_no_probability_stops_the_run() -> None:
    class Odd:
        identity = "odd"

        async def score(self, path: Path) -> Score:
            return Score(1.5)

    with pytest.raises(AtomThinkError, match=r"1\.5"):
        score_solutions(CHAINS[:3], Odd())


def test_paths_are_those_of_a_search() -> None:
    seen: list[tuple[int, str | None]] = []

    class Watching:
        identity = "watching"

        async def score(self, path: Path) -> Score:
            assert path.step is not None
            assert [step.text for step in path.steps][-1] == path.step.text
            seen.append((path.depth, path.answer))
            return Score(0.5)

    steps = ("Step 1: a.", "Step 2: To sum up, the final answer is: 7.")
    assert score_solutions([GivenSolution("c", "q", steps)], Watching()) == [(0.5, 0.5)]
    assert seen == [(1, None), (2, "7")]


class Whole:
    """Scores chains as a whole."""

    identity = "whole"

    async def score(self, path: Path) -> Score:
        raise NotImplementedError

    async def score_chain(self, path: Path) -> list[Score]:
        if path.question.id == "0":
            raise QuestionError("too long")
        return [Score(0.25)] * (path.depth if path.question.id == "1" else 1)


def test_a_scorer_of_chains_reads_each_chain_once() -> None:
    assert score_solutions(CHAINS[:2], Whole()) == ["too long", (0.25,) * 5]
    with pytest.raises(AtomThinkError, match="1 scores for 5 steps"):
        score_solutions(CHAINS[2:3], Whole())


def test_solutions_that_look_the_same_are_scored_once(capsys: pytest.CaptureFixture[str]) -> None:
    one = solution("7", 2)
    first, second, third = score_solutions([one, replace(one, id="8"), solution("9", 2)], Scripted())
    assert first == second != third
    assert len(capsys.readouterr().out.split()) == 4


def test_an_image_that_cannot_be_read_fails_its_solution_alone(tmp_path: FilePath) -> None:
    lost = GivenSolution("lost", "q", ("One.",), (tmp_path / "nowhere.png",))
    file = ScoreFile(tmp_path / "scores.jsonl", {})
    failed, found = score_solutions([lost, CHAINS[0]], Scripted(), file)
    file.close()
    assert "nowhere.png" in failed
    assert len(found) == 5
