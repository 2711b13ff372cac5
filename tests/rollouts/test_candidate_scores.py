"""Scores of candidates: every step once, continued after a kill, and those of several scorers side by side."""

from __future__ import annotations

import asyncio
import json
import math
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

import pytest
from PIL import Image

from atomthink_plugin.api import AtomThinkError, Path, Score, ServerError, Usage
from atomthink_plugin.rollouts.candidate_scores import CandidateScores, count_alike, score_candidates, scores_in_file
from atomthink_plugin.rollouts.rollout_set import RolloutCandidate, RolloutSet
from atomthink_plugin.rollouts.score_file import CandidateScoreFile
from tests.rollouts.killed_candidates import SETS, STEPS, UNREADABLE

ROOT = FilePath(__file__).parents[2]


def asked(*candidates: Sequence[str] | None, **scores: Sequence[float]) -> RolloutSet:
    """A question whose candidates have these steps; the first one has the scores."""
    made = [RolloutCandidate("", None if steps is None else tuple(steps)) for steps in candidates]
    made[0] = replace(made[0], scores={name: tuple(own) for name, own in scores.items()})
    return RolloutSet("q", "What is 1 + 1?", tuple(made), gold="2")


class Recorded:
    """Scores each step with a fixed number, and records the paths."""

    def __init__(self, value: float = 0.5, name: str = "recorded") -> None:
        self.identity, self.value = name, value
        self.paths: list[Path] = []

    async def score(self, path: Path) -> Score:
        self.paths.append(path)
        return Score(self.value, Usage(score_calls=1))


@contextmanager
def opened(file: FilePath) -> Iterator[CandidateScoreFile]:
    with closing(CandidateScoreFile(file)) as scores:
        yield scores


def scored(file: FilePath, sets: Sequence[RolloutSet], scorer: Recorded) -> CandidateScores:
    with opened(file) as scores:
        return score_candidates(sets, scorer, scorer.identity, {"weights": scorer.identity}, scores)


def start(folder: FilePath, name: str, run: int, *candidates: str) -> int:
    command = [sys.executable, "-m", "tests.rollouts.killed_candidates", str(folder), name, *candidates]
    with (folder / f"asked{run}").open("w") as asked:
        return subprocess.run(command, cwd=ROOT, stdout=asked).returncode


def asked_in(folder: FilePath, run: int) -> Counter[str]:
    return Counter(line for line in (folder / f"asked{run}").read_text().split("\n") if line)


def test_a_killed_run_continues_and_another_prm_is_added_later(tmp_path: FilePath) -> None:
    assert start(tmp_path, "one", 0, "20") == -signal.SIGKILL
    with (tmp_path / "scores.jsonl").open("ab") as file:
        file.write(b'{"scorer": "torn')
    assert start(tmp_path, "one", 1) == 0
    assert start(tmp_path, "two", 2) == 0
    finished = {line for line in asked_in(tmp_path, 0) if f"s{STEPS - 1}" in line}
    again = asked_in(tmp_path, 0) & asked_in(tmp_path, 1)
    # Candidates in work when the process was killed are scored again; at least 19 finished ones are not.
    assert len(finished) >= 19
    assert len([line for line in finished if line not in again]) >= 19
    scores, calls, resumed = json.loads((tmp_path / "one.json").read_text())
    assert resumed >= 19
    assert calls == (60 - 1) * STEPS  # of both runs
    assert [len(own) for own in scores[0]] == [STEPS] * 5
    assert scores[3][2] == "step 2: too long"
    assert asked_in(tmp_path, 2).total() == 60 * STEPS - 2  # the unreadable one has two further steps
    assert start(tmp_path, "one", 3) == 0  # the first PRM's scores are all there
    assert asked_in(tmp_path, 3) == Counter({"q3 c2 s0": 1, UNREADABLE: 1})


def test_equal_candidates_are_scored_once_and_get_the_same_scores(tmp_path: FilePath) -> None:
    scorer = Recorded()
    found = scored(tmp_path / "s", [asked(["a", "b"], ["c"], ["a", "b"], ["d", "b"])], scorer)
    assert found.scores == [[(0.5, 0.5), (0.5,), (0.5, 0.5), (0.5, 0.5)]]
    assert len(scorer.paths) == 5
    assert (found.usage.score_calls, found.scored, found.resumed) == (5, 3, 0)


def test_a_step_that_states_the_answer_ends_its_path(tmp_path: FilePath) -> None:
    scorer = Recorded()
    scored(tmp_path / "s", [asked(["1 + 1 = 2.", "The final answer is: 2"])], scorer)
    assert [(path.final, path.answer) for path in scorer.paths] == [(False, None), (True, "2")]


def test_the_candidates_of_a_question_are_scored_together_and_their_steps_in_order(tmp_path: FilePath) -> None:
    scorer = Recorded()
    with opened(tmp_path / "s") as file:
        score_candidates(SETS, scorer, "p", {}, file)
    seen = [path.steps[-1].text for path in scorer.paths]
    for q in range(12):
        for c in range(5):
            places = [seen.index(f"q{q} c{c} s{s}") for s in range(STEPS)]
            assert places == sorted(places)
    assert {path.question.id for path in scorer.paths[:10]} <= {"q0", "q1"}


def test_the_right_answer_never_reaches_a_scorer(tmp_path: FilePath) -> None:
    scorer = Recorded()
    secret = replace(asked(["a"]), gold="SECRET", record={"answer": "SECRET"})
    scored(tmp_path / "s", [secret], scorer)
    assert "SECRET" not in repr(scorer.paths)


def test_a_chain_scorer_reads_each_chain_once(tmp_path: FilePath) -> None:
    class Whole(Recorded):
        async def score_chain(self, path: Path) -> list[Score]:
            self.paths.append(path)
            return [Score(0.25, Usage(score_calls=1, judged=7)), *(Score(0.5) for _ in path.steps[1:])]

    scorer = Whole()
    found = scored(tmp_path / "s", [asked(["a", "b", "c"])], scorer)
    assert [path.depth for path in scorer.paths] == [3]
    assert found.scores == [[(0.25, 0.5, 0.5)]]
    assert found.usage.judged == 7


def test_critiques_are_kept_with_their_scores(tmp_path: FilePath) -> None:
    class Critic(Recorded):
        async def score(self, path: Path) -> Score:
            self.paths.append(path)
            return Score(0.5, reason=f"step {path.depth} is fine")

    sets = [asked(["a", "b"], [])]
    found = scored(tmp_path / "s", sets, Critic())
    assert found.reasons == [[("step 1 is fine", "step 2 is fine"), ()]]
    again = Critic()
    assert scored(tmp_path / "s", sets, again).reasons == found.reasons
    assert not again.paths
    assert scored(tmp_path / "t", sets, Recorded()).reasons == []


@pytest.mark.parametrize("count", [1, 3])
def test_a_chain_scorer_that_returns_another_number_of_scores_is_refused(tmp_path: FilePath, count: int) -> None:
    class Other(Recorded):
        async def score_chain(self, path: Path) -> list[Score]:
            return [Score(0.5)] * count

    with pytest.raises(AtomThinkError, match=f"{count} scores for 2 steps"):
        scored(tmp_path / "s", [asked(["a", "b"])], Other())


@pytest.mark.parametrize("value", [math.nan, math.inf, 1.5, -0.1])
def test_a_score_that_is_no_probability_stops_the_run_and_is_not_kept(tmp_path: FilePath, value: float) -> None:
    with pytest.raises(AtomThinkError, match=repr(value).replace(".", r"\.")):
        scored(tmp_path / "s", [asked(["a"])], Recorded(value))
    assert b'"scores": [' not in (tmp_path / "s").read_bytes()


def test_a_server_that_is_gone_stops_the_run_instead_of_failing_each_candidate(tmp_path: FilePath) -> None:
    class Gone(Recorded):
        async def score(self, path: Path) -> Score:
            self.paths.append(path)
            raise ServerError("gone")

    with pytest.raises(ServerError):
        scored(tmp_path / "s", SETS, Gone())
    assert b"failure" not in (tmp_path / "s").read_bytes()


def test_candidates_without_steps_and_questions_with_broken_images_are_counted(tmp_path: FilePath) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    Image.new("RGB", (8, 8)).save(tmp_path / "good.png")
    sets = [
        asked(["a"], None, []),
        replace(asked(["a"], ["b"]), pictures=(tmp_path / "broken.png",)),
        replace(asked(["a"], ["b"]), pictures=(tmp_path / "missing.png",)),
        replace(asked(["a"]), pictures=(tmp_path / "good.png",)),
    ]
    scorer = Recorded()
    found = scored(tmp_path / "s", sets, scorer)
    assert [[isinstance(one, str) for one in own] for own in found.scores] == [
        [False, True, True],
        [True, True],
        [True, True],
        [False],
    ]
    assert found.failed.total() == 6
    assert found.scored == 2
    assert len(scorer.paths[-1].question.images) == 1


def test_the_same_steps_with_another_image_are_another_candidate(tmp_path: FilePath) -> None:
    file = tmp_path / "image.png"
    for colour, calls in (("red", 1), ("red", 0), ("blue", 1)):
        Image.new("RGB", (8, 8), colour).save(file)
        scorer = Recorded()
        scored(tmp_path / "s", [replace(asked(["a"]), pictures=(file,))], scorer)
        assert len(scorer.paths) == calls


def test_reasons_that_differ_in_numbers_alone_count_together() -> None:
    counts = count_alike(["step 3: 5,000 tokens", "step 12: 6,000 tokens", "it has no steps"])
    assert counts == {"step 3: 5,000 tokens": 2, "it has no steps": 1}


@pytest.mark.parametrize("change", [{"question": "What is 2 + 2?"}, {"choices": ("1", "3")}])
def test_the_same_steps_of_another_question_are_another_candidate(tmp_path: FilePath, change: dict[str, Any]) -> None:
    first = replace(asked(["a"]), choices=("1", "2"))
    scorer = Recorded()
    found = scored(tmp_path / "s", [first, replace(first, **change), first], scorer)
    assert (len(scorer.paths), found.scored) == (2, 2)


def test_steps_that_are_cut_at_other_places_are_other_candidates(tmp_path: FilePath) -> None:
    assert scored(tmp_path / "s", [asked(["ab", "c"], ["a", "bc"])], Recorded()).scored == 2


def test_the_seconds_of_all_candidates_add_up_to_no_more_than_the_time_of_the_run(tmp_path: FilePath) -> None:
    class Slow(Recorded):
        async def score(self, path: Path) -> Score:
            await asyncio.sleep(0.01)
            return Score(0.5)

    started = time.monotonic()
    found = scored(tmp_path / "s", SETS, Slow())
    assert 0 < found.usage.seconds <= time.monotonic() - started


def test_a_scorer_is_described_once_and_known_in_any_order_of_its_arguments(tmp_path: FilePath) -> None:
    for identity, calls in (({"kind": "a", "prm": "b"}, 1), ({"prm": "b", "kind": "a"}, 0), ({"kind": "a"}, 1)):
        scorer = Recorded()
        with opened(tmp_path / "s") as file:
            score_candidates([asked(["a"])], scorer, "p", identity, file)
        assert len(scorer.paths) == calls
    assert (tmp_path / "s").read_text().count('"identity"') == 2


def test_a_run_without_any_score_is_refused_with_the_reason(tmp_path: FilePath) -> None:
    with pytest.raises(AtomThinkError, match="no steps"):
        scored(tmp_path / "s", [asked([])], Recorded())


def test_another_file_is_never_appended_to(tmp_path: FilePath) -> None:
    file = tmp_path / "rollouts.jsonl"
    file.write_text('{"question": "1 + 1?"}\n')
    with pytest.raises(AtomThinkError, match=r"rollouts\.jsonl"):
        CandidateScoreFile(file)
    assert file.read_text() == '{"question": "1 + 1?"}\n'


@pytest.mark.parametrize("written", ["[0.5]", "[0.5, NaN]"])
def test_a_record_without_all_scores_is_scored_again(tmp_path: FilePath, written: str) -> None:
    file = tmp_path / "s"
    scored(file, [asked(["a", "b"])], Recorded())
    file.write_text(file.read_text().replace("[0.5, 0.5]", written))
    scorer = Recorded()
    assert scored(file, [asked(["a", "b"])], scorer).scores == [[(0.5, 0.5)]]
    assert len(scorer.paths) == 2


def test_scores_of_the_file_are_used_where_they_fit_the_steps() -> None:
    sets = [
        asked(["a", "b"], ["c"], vlm=[0.1, 0.2]),
        asked(["a", "b"], vlm=[0.1, 0.2, 0.3]),
        asked(["a", "b"], vlm=[0.1, math.nan]),
        asked([], vlm=[]),
    ]
    found = scores_in_file(sets, "vlm", "vlm")
    assert found.scores[0][0] == (0.1, 0.2)
    assert [[isinstance(one, str) for one in own] for own in found.scores] == [[False, True], [True], [True], [True]]
    assert "3 scores for 2 steps" in str(found.scores[1][0])
    with pytest.raises(AtomThinkError, match="vlm"):
        scores_in_file(sets, "other", "other")
