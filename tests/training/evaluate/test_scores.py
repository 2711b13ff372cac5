"""Scores: as a search computes them, continued after a kill, and never those of another PRM."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path as FilePath

import pytest

from atomthink_plugin.api import AtomThinkError, Path, Score
from atomthink_plugin.training.evaluate.readers import LabelledChain
from atomthink_plugin.training.evaluate.scores import ScoreFile, score_chains
from tests.training.evaluate.killed_scoring import CHAINS, UNREADABLE, Scripted
from tests.training.evaluate.ten_chains import scored

ROOT = FilePath(__file__).parents[3]
KILLS = 3


def start(folder: FilePath, run: int, *chains: str) -> int:
    """Scores until so many more chains are written; returns the exit status."""
    command = [sys.executable, "-m", "tests.training.evaluate.killed_scoring", str(folder), *chains]
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
    given, failed = json.loads((tmp_path / "scores.json").read_text())
    expected = score_chains(CHAINS, Scripted())
    assert given == {chain.item.chain.id: list(chain.scores) for chain in expected.chains}
    assert failed == expected.failed == {UNREADABLE: "step 3: too long"}
    assert Counter(finished(tmp_path)) == Counter(item.chain.id for item in CHAINS[:-1])


@pytest.mark.parametrize("content", ['{"prm": {"prm": "first"}}\n', "Dear diary,\n", '\n{"prm": {"prm": "second"}}\n'])
def test_a_file_of_another_prm_or_of_something_else_is_refused_and_left_alone(content: str, tmp_path: FilePath) -> None:
    file = tmp_path / "scores.jsonl"
    file.write_text(content)
    for _ in range(2):  # the refusal unlocks the file
        with pytest.raises(AtomThinkError, match="--scores"):
            ScoreFile(file, {"prm": "second"})
    assert file.read_text() == content


def test_a_file_of_an_earlier_version_is_continued(tmp_path: FilePath) -> None:
    item, other = scored([1.0, 0.0], [0.0, 0.0], "a").item, scored([1.0], [0.0], "b").item
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
    one, same, other = scored([1.0], [0.0], "a").item, scored([0.0], [0.0], "a").item, scored([1.0], [0.0], "b").item
    file = ScoreFile(tmp_path / "scores.jsonl", {})
    file.put(one, one.key(), [0.25])
    file.close()
    again = ScoreFile(tmp_path / "scores.jsonl", {})
    assert again.get(same, same.key()) == (0.25,)
    assert again.get(other, other.key()) is None


def test_a_set_that_cannot_be_scored_at_all_is_an_error() -> None:
    with pytest.raises(AtomThinkError, match="step 3: too long"):
        score_chains(CHAINS[-1:], Scripted())


def test_a_score_that_is_no_probability_stops_the_run() -> None:
    class Odd:
        identity = "odd"

        async def score(self, path: Path) -> Score:
            return Score(1.5)

    with pytest.raises(AtomThinkError, match=r"1\.5"):
        score_chains(CHAINS[:3], Odd())


def test_paths_are_those_of_a_search() -> None:
    seen: list[tuple[int, str | None]] = []

    class Watching:
        identity = "watching"

        async def score(self, path: Path) -> Score:
            assert path.step is not None
            assert [step.text for step in path.steps][-1] == path.step.text
            seen.append((path.depth, path.answer))
            return Score(0.5)

    item = scored([1.0, 1.0], [0.0, 0.0]).item
    chain = item.chain.model_copy(update={"steps": ("Step 1: a.", "Step 2: To sum up, the final answer is: 7.")})
    score_chains([LabelledChain(chain, "q")], Watching())
    assert seen == [(1, None), (2, "7")]
