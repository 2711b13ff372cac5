"""Scoring: as a search asks, resumable, and never with another PRM's scores."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path as FilePath

import pytest

from atomthink_plugin.api import AtomThinkError, Path, Score
from atomthink_plugin.training.evaluate.score_file import ScoreFile
from atomthink_plugin.training.evaluate.scoring import score_chains
from tests.training.evaluate.killed import CHAINS, UNREADABLE, Scripted
from tests.training.evaluate.ten import scored

ROOT = FilePath(__file__).parents[3]
KILLS = 3


def start(folder: FilePath, run: int, *chains: str) -> int:
    """Scores until so many more chains are written; returns the exit status."""
    command = [sys.executable, "-m", "tests.training.evaluate.killed", str(folder), *chains]
    with (folder / f"asked{run}").open("w") as asked:
        return subprocess.run(command, cwd=ROOT, stdout=asked).returncode


def finished(folder: FilePath) -> list[str]:
    """Chains whose scores are on disk."""
    file = folder / "scores.jsonl"
    lines = file.read_bytes().split(b"\n") if file.exists() else []
    return [json.loads(line)["id"] for line in lines if b'"scores": [' in line]


def test_a_killed_run_goes_on_and_gives_what_it_would_have_given(tmp_path: FilePath) -> None:
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


def test_a_file_of_another_prm_is_refused(tmp_path: FilePath) -> None:
    ScoreFile(tmp_path / "scores.jsonl", {"prm": "first"}).close()
    with pytest.raises(AtomThinkError, match=r"no file of this PRM's scores \(it begins with .*first"):
        ScoreFile(tmp_path / "scores.jsonl", {"prm": "second"})


def test_scores_belong_to_what_was_read_and_not_to_a_name(tmp_path: FilePath) -> None:
    one, same, other = scored([1.0], [0.0], "a").item, scored([0.0], [0.0], "a").item, scored([1.0], [0.0], "b").item
    file = ScoreFile(tmp_path / "scores.jsonl", {})
    file.put(one, one.key(), [0.25])
    file.close()
    again = ScoreFile(tmp_path / "scores.jsonl", {})
    assert again.get(same, same.key()) == (0.25,)
    assert again.get(other, other.key()) is None


def test_a_set_that_cannot_be_scored_at_all_is_an_error() -> None:
    with pytest.raises(AtomThinkError, match="none of the 1 chains could be scored; the first: step 3: too long"):
        score_chains(CHAINS[-1:], Scripted())


def test_a_score_that_is_none_stops_the_run() -> None:
    class Odd:
        identity = "odd"

        async def score(self, path: Path) -> Score:
            return Score(1.5)

    with pytest.raises(AtomThinkError, match=r"scores must be in \[0, 1\]"):
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
    told = item.chain.model_copy(update={"steps": ("Step 1: a.", "Step 2: To sum up, the final answer is: 7.")})
    score_chains([type(item)(told, "q")], Watching())
    assert seen == [(1, None), (2, "7")]
