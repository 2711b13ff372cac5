"""Reading runs: samples of any model, joined with the trees of its journal."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from atomthink_plugin.api import AtomThinkError, Failure, Node, Outcome, Rollout, Usage
from atomthink_plugin.report.run_reader import read
from atomthink_plugin.runtime.journal import Journal
from tests.report.runs import DATE, TASK, Written, asked, write_run
from tests.trees import question

NODE = Node("a", "root", "Step 1: The answer is 4.", 0.5, -1.0, 7, 2, "4")
RIGHT = Outcome(
    "Step 1: The answer is 4.",
    "4",
    ("Step 1: The answer is 4.",),
    (0.5,),
    1.0,
    "final",
    Usage(policy_calls=2, score_calls=1, generated=14, seconds=0.25),
    (NODE,),
    (Rollout("a", -0.125, 7, 0.125), Rollout("a", -0.125, 7, 0.25)),
)
WRONG = replace(RIGHT, text="Step 1: The answer is 5.", answer="5", stopped="budget")
FAILED = Failure("image 1 is truncated", Usage())


@pytest.fixture
def run(tmp_path: Path) -> Written:
    def groups(doc_id: int) -> dict[str, list[str]]:
        return {"level": [str(doc_id % 2)], "skill": ["adding", "reading"]}

    return write_run(tmp_path, [RIGHT, WRONG, FAILED], ["4", "4", "4"], groups=groups)


def test_samples_are_joined_with_their_trees(run: Written) -> None:
    found = read(run.out)
    assert (found.name, found.model, found.tasks) == ("out", "atomthink_scripted", (TASK,))
    assert found.scorer == "acc of sums 1.0"
    assert found.settings["search"] == {"name": "majority"}
    assert list(found.missing) == []
    assert [question.correct for question in found.questions] == [True, False, False]
    assert [question.failed for question in found.questions] == [None, None, "image 1 is truncated"]
    assert [question.outcome for question in found.questions] == [RIGHT, WRONG, None]
    first = found.questions[0]
    assert (first.tokens, first.policy_calls, first.prm_calls, first.seconds) == (14, 2, 1, 0.25)
    assert (first.text, first.target, first.stopped) == (f"What is {asked(0)}?", "4", "final")
    assert first.groups == {"level": ("0",), "skill": ("adding", "reading")}


def test_a_run_can_be_named_by_its_results_file(run: Written) -> None:
    file = run.out / f"{DATE}_results.json"
    assert read(file).questions == read(run.out).questions


def test_a_journal_alone_has_trees_and_no_verdicts(run: Written) -> None:
    assert run.journal is not None
    found = read(run.journal)
    assert [question.outcome for question in found.questions] == [RIGHT, WRONG, None]
    assert {question.correct for question in found.questions} == {None}
    assert "--output_path" in found.missing[0]


def test_samples_of_other_models_have_no_trees_and_no_notes(run: Written) -> None:
    file = run.out / f"{DATE}_samples_{TASK}.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps({**line, "token_counts": [None]}) + "\n" for line in lines))
    found = read(run.out)
    assert [question.correct for question in found.questions] == [True, False, False]
    assert {question.outcome for question in found.questions} == {None}
    assert {question.tokens for question in found.questions} == {None}
    assert list(found.missing) == []


def test_a_moved_journal_is_found_by_its_folder_or_its_parent(run: Written, tmp_path: Path) -> None:
    assert run.journal is not None
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    shutil.move(run.journal, moved)
    lost = read(run.out)
    assert {question.outcome for question in lost.questions} == {None}
    assert run.journal.name in lost.missing[0]
    for place in (moved, moved / run.journal.name):
        assert read(run.out, place).questions[0].outcome == RIGHT
    with pytest.raises(AtomThinkError, match=run.journal.name):
        read(run.out, tmp_path)


def test_a_damaged_journal_is_read_as_far_as_possible(run: Written) -> None:
    assert run.journal is not None
    file = run.journal / "rank0.jsonl"
    first, second, *_ = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(first + second[:-30])
    found = read(run.out)
    assert [question.outcome for question in found.questions] == [RIGHT, None, None]
    damaged, lost = found.missing
    assert all(run.journal.name in note for note in found.missing)
    assert damaged.startswith("1 ")
    assert lost.startswith("2 of 3 ")


def test_the_record_of_the_scored_reply_is_used(run: Written, tmp_path: Path) -> None:
    """One configuration may ask a question twice, with other limits for example."""
    assert run.journal is not None
    journal = Journal(tmp_path / "journal", "run", json.loads((run.journal / "settings.json").read_text()), rank=1)
    assert journal.folder == run.journal
    longer = replace(RIGHT, usage=replace(RIGHT.usage, generated=99))
    journal.put(replace(question(asked(0)), direct=True), longer)
    assert read(run.out).questions[0].outcome == RIGHT
    (run.journal / "rank0.jsonl").unlink()
    found = read(run.out)
    assert found.questions[0].outcome is None
    assert any("1 questions" in note for note in found.missing)


def test_a_reply_may_hold_any_line_separator(tmp_path: Path) -> None:
    odd = replace(RIGHT, text="Step 1: a\u2028b\x85c. The answer is 4.")
    run = write_run(tmp_path, [odd], ["4"])
    file = run.out / f"{DATE}_samples_{TASK}.jsonl"
    file.write_text(json.dumps(json.loads(file.read_text()), ensure_ascii=False) + "\n")  # as lmms-eval writes it
    assert read(run.out).questions[0].reply == odd.text


@pytest.mark.parametrize(
    ("said", "verdict"),
    [(1.0, True), (0, False), (True, True), ({"true_false": False}, False), ({"score": 1}, True), (0.5, None)],
)
def test_verdicts_of_other_tasks_are_read(said: object, verdict: bool | None, tmp_path: Path) -> None:
    run = write_run(tmp_path, [RIGHT], ["4"], extra={"acc": said})
    assert read(run.out).questions[0].correct is verdict


def test_a_metric_between_0_and_1_is_no_verdict_for_any_question(tmp_path: Path) -> None:
    run = write_run(tmp_path, [RIGHT, WRONG, RIGHT], ["4"] * 3)
    file = run.out / f"{DATE}_samples_{TASK}.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for share in (0.8, 0.0):
        lines[0]["acc"] = share
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        found = read(run.out)
        assert [question.correct for question in found.questions] == (
            [None] * 3 if share == 0.8 else [False, False, True]
        )
        assert any("`acc`" in note for note in found.missing) == (share == 0.8)


def test_a_metric_for_which_lower_is_better_is_no_verdict(tmp_path: Path) -> None:
    run = write_run(tmp_path, [RIGHT], ["4"], extra={"errors": 1.0})
    file = run.out / f"{DATE}_results.json"
    results = json.loads(file.read_text())
    results["higher_is_better"] = {TASK: {"errors": False, "acc": True}}
    file.write_text(json.dumps(results))
    found = read(run.out)
    assert (found.questions[0].correct, found.scorer) == (True, "acc of sums 1.0")


def test_a_failed_question_is_wrong_with_the_cost_in_its_journal(tmp_path: Path) -> None:
    failed = replace(FAILED, usage=Usage(policy_calls=3, generated=50, seconds=2.0))
    found = read(write_run(tmp_path, [RIGHT, failed], ["4", "4"], extra={"acc": 1.0}).out)
    question = found.questions[1]
    assert question.correct is False
    assert (question.tokens, question.policy_calls, question.seconds) == (50, 3, 2.0)
    assert found.pace == 4.0


def test_what_a_question_costs_is_not_how_long_it_is_in_flight(tmp_path: Path) -> None:
    outcomes = [replace(RIGHT, usage=replace(RIGHT.usage, seconds=seconds)) for seconds in (30.0, 40.0, 50.0, 40.0)]
    found = read(write_run(tmp_path, outcomes, ["4"] * 4).out)  # the run took 8 seconds
    assert (found.pace, found.latency, found.in_flight) == (2.0, 40.0, 20.0)
    resumed = replace(found, pace=None)
    assert (resumed.latency, resumed.in_flight) == (40.0, None)


def test_of_two_records_with_equal_cost_the_one_with_the_reply_is_used(run: Written, tmp_path: Path) -> None:
    """Two temperatures of `--gen_kwargs` share one journal."""
    journal = Journal(tmp_path / "journal", "run", json.loads((run.journal / "settings.json").read_text()), rank=1)  # type: ignore[operator]
    other = replace(WRONG, usage=RIGHT.usage)
    journal.put(replace(question(asked(0)), direct=True), other)
    assert read(run.out).questions[0].outcome == RIGHT


def test_a_journal_that_the_run_does_not_state_is_joined_by_replies(tmp_path: Path) -> None:
    own = write_run(tmp_path / "own", [RIGHT, WRONG], ["4", "4"])
    same = write_run(tmp_path / "same", [RIGHT, RIGHT], ["4", "4"], journal=False)
    found = read(same.out, own.journal)
    assert [question.outcome for question in found.questions] == [RIGHT, None]
    assert any("1 questions" in note for note in found.missing)
    with pytest.raises(AtomThinkError, match=f"--journal {tmp_path}`"):
        read(same.out, tmp_path)


def test_a_question_that_failed_and_was_finished_later_is_finished(tmp_path: Path) -> None:
    """The later run may have another number of processes, so that its files may sort first."""
    settings = {"search": {"name": "majority"}}
    for rank, result in ((1, FAILED), (0, RIGHT)):
        journal = Journal(tmp_path, "run", settings, rank=rank)
        journal.put(question(asked(0)), result)
        journal.close()
    assert [one.outcome for one in read(journal.folder).questions] == [RIGHT]


@pytest.mark.parametrize(
    ("replies", "shown"),
    [("a", "a"), (["a", "b"], "a"), ([], ""), ([[-1.5, False], [-0.5, True]], "[[-1.5, false], [-0.5, true]]")],
)
def test_replies_of_any_task_are_read(replies: object, shown: str, tmp_path: Path) -> None:
    odd = {"filtered_resps": replies, "groups": ["not", "ours"], "breakdown": 3, "token_counts": None}
    found = read(write_run(tmp_path, [RIGHT], ["4"], extra=odd).out)
    assert (found.questions[0].reply, found.questions[0].groups) == (shown, {})


def test_a_resumed_run_has_no_pace(run: Written) -> None:
    assert read(run.out).pace == 8.0 / 3
    file = run.out / f"{DATE}_results.json"
    results = json.loads(file.read_text())
    results["throughput"]["total_gen_tokens"] -= 14
    file.write_text(json.dumps(results))
    assert read(run.out).pace is None


def test_a_missing_run_is_an_error_that_names_output_path(tmp_path: Path) -> None:
    with pytest.raises(AtomThinkError, match="--output_path"):
        read(tmp_path)


def test_no_journal_is_searched_for_models_without_journals(run: Written, tmp_path: Path) -> None:
    file = run.out / f"{DATE}_samples_{TASK}.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps({**line, "token_counts": [{"output_tokens": 5}]}) + "\n" for line in lines))
    found = read(run.out, tmp_path)
    assert f"--journal {tmp_path}`" in found.missing[0]
    assert {question.tokens for question in found.questions} == {5}
