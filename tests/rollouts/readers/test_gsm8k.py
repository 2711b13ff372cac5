"""Solutions of four models to GSM8K, in the layout of `example_model_solutions.jsonl`, and the published file."""

from __future__ import annotations

from pathlib import Path

import pytest

from atomthink_plugin.answers import equivalent
from atomthink_plugin.rollouts.candidate_verdicts import BY_RULES, FROM_FILE, judge_candidates
from atomthink_plugin.rollouts.rollout_file import read_rollouts
from tests.rollouts.readers.record_files import jsonl

PUBLISHED = Path(__file__).parents[4] / "shared" / "data" / "gsm8k" / "model_solutions_test.jsonl.gz"

RECORD = {
    "question": "Ann has 3 bags of 4 nuts and eats 2. How many are left?",
    "ground_truth": "She has 3 * 4 = <<3*4=12>>12 nuts.\nShe keeps 12 - 2 = <<12-2=10>>10.\nA: 10",
    "6b_finetuning": {"is_correct": False, "solution": "3 + 4 = <<3+4=7>>7 nuts\n7 - 2 = <<7-2=5>>5\nA: 5"},
    "6b_verification": {"is_correct": True, "solution": "3*4=<<3*4=12>>12, 12-2=<<12-2=10>>10\nA: 10\n"},
    "175b_finetuning": {"is_correct": False, "solution": "She has 12.3333333"},
    "175b_verification": {"is_correct": True, "solution": "1 << 2 is no mark of the calculator\nA: 10"},
}


def test_the_four_solutions_are_the_candidates_with_steps_answers_and_verdicts(tmp_path: Path) -> None:
    broken = {**RECORD, "question": "Another?", "175b_finetuning": {"solution": "A: 1"}}
    found = read_rollouts([jsonl(tmp_path / "solutions.jsonl", RECORD, broken, "{")])
    (one,) = found.sets
    first, second, third, fourth = one.candidates
    assert (found.format, one.gold, one.question) == ("gsm8k", "10", RECORD["question"])
    assert first.text == "3 + 4 = 7 nuts\n7 - 2 = 5\nA: 5"
    assert first.steps == ("3 + 4 = 7 nuts", "7 - 2 = 5", "A: 5")
    assert [candidate.answer for candidate in one.candidates] == ["5", "10", None, "10"]
    assert [candidate.correct for candidate in one.candidates] == [False, True, False, True]
    assert second.steps == ("3*4=12, 12-2=10", "A: 10")
    assert third.steps == ("She has 12.3333333",)
    assert "1 << 2" in fourth.text
    assert found.records == 3
    assert any(reject.reason.startswith("175b_finetuning: is_correct") for reject in found.rejects)
    assert {reject.where for reject in found.rejects} == {"solutions.jsonl:2", "solutions.jsonl:3"}


@pytest.fixture(scope="module")
def published() -> str:
    if not PUBLISHED.is_file():
        pytest.skip(f"{PUBLISHED} is not on this machine")
    return str(PUBLISHED)


def test_the_published_file_is_read_whole_and_its_verdicts_are_ours(published: str) -> None:
    found = read_rollouts([published])
    assert (len(found.sets), found.records, found.candidates, len(found.rejects)) == (1319, 1319, 5276, 0)
    assert found.unanswered == 10  # cut off in the middle, but one that is only `25`
    assert all(one.gold for one in found.sets)
    every = [candidate.text for one in found.sets for candidate in one.candidates]
    assert sum("<<" in text for text in every) == 5  # in these, the end of a mark is missing
    ours = [
        (candidate.answer is not None and equivalent(candidate.answer, one.gold or "")) == candidate.correct
        for one in found.sets
        for candidate in one.candidates
    ]
    assert sum(ours) == 5276
    judged = judge_candidates(found.sets)
    assert judged.by == {FROM_FILE: 5276}
    assert BY_RULES not in judged.by


def test_a_limit_keeps_the_first_questions_with_all_their_candidates(published: str) -> None:
    found = read_rollouts([published], limit=7)
    assert (len(found.sets), found.candidates) == (7, 28)
