"""Verdicts in the samples of lmms-eval's own tasks, written by the installed harness."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from atomthink_plugin.cli import main
from atomthink_plugin.report.run_reader import RecordedRun, read
from atomthink_plugin.report.run_samples import Run, Sample
from atomthink_plugin.report.verdicts import Verdicts, score_of
from tests.tasks import scripted_plugin
from tests.tasks.builtin_benchmarks import BENCHMARKS, write
from tests.tasks.cli import evaluate, results

TASK = "sums"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data sets, and in `out` a run of all of their tasks."""
    home = write(tmp_path_factory.mktemp("builtin"))
    extra = scripted_plugin.install(home / "plugin", {})
    log = evaluate(home, home, ",".join(BENCHMARKS), "--model", "scripted", extra=extra)
    assert list(home.glob("out/**/[0-9]*_results.json")), log
    return home


@pytest.fixture(scope="module")
def recorded(home: Path) -> RecordedRun:
    return read(home / "out")


@pytest.mark.slow
@pytest.mark.parametrize("task", BENCHMARKS)
def test_every_task_that_runs_here_has_the_right_verdicts(recorded: RecordedRun, task: str) -> None:
    found = [question.correct for question in recorded.questions if question.task == task]
    assert found == [row["right"] for row in BENCHMARKS[task][3]]
    assert list(recorded.missing) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "metric", "scale"),
    [
        ("mathvision_testmini", "mathvision_standard_eval,none", 100),
        ("mmmu_val", "mmmu_acc,none", 1),
        ("seedbench", "seed_all,none", 1),
        ("gsm8k_cot_zeroshot", "exact_match,strict-match", 1),
        ("muirbench", "muirbench_score_overall,flexible-extract", 1),
    ],
)
def test_the_accuracy_equals_that_of_the_harness(
    home: Path, recorded: RecordedRun, task: str, metric: str, scale: int
) -> None:
    verdicts = [bool(question.correct) for question in recorded.questions if question.task == task]
    assert sum(verdicts) / len(verdicts) * scale == pytest.approx(results(home)["results"][task][metric], abs=0.01)


@pytest.mark.slow
def test_a_task_with_two_filters_has_each_question_once(recorded: RecordedRun) -> None:
    questions = [question for question in recorded.questions if question.task == "gsm8k_cot_zeroshot"]
    assert [question.doc_id for question in questions] == [0, 1, 2]
    assert {question.scorer for question in questions} == {"exact_match (strict-match) of gsm8k_cot_zeroshot 3.0"}


@pytest.mark.slow
@pytest.mark.parametrize("task", ["mathvision_testmini", "mathvision_test"])
def test_the_harness_own_mathvision_is_submitted(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    monkeypatch.chdir(home)  # where the data set is
    file = tmp_path / "output.jsonl"
    run = ["submit", "mathvision", str(home / "out")]
    assert main([*run, "--out", str(file)]) == 2  # the two splits are files of their own
    assert main([*run, "--out", str(file), "--task", task]) == 0
    rows = BENCHMARKS[task][3]
    entries = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(entry["id"], entry["response"], entry["correct"]) for entry in entries] == [
        (row["id"], row["reply"], row["right"]) for row in rows
    ]
    assert [entry["model_answer"] for entry in entries] == ["6", "C", "7", "B"]


@pytest.mark.slow
def test_another_version_of_the_data_set_is_not_submitted(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ["submit", "mathvision", str(home / "out"), "--task", "mathvision_testmini"]
    monkeypatch.chdir(tmp_path)  # there is none, and no network
    assert main(run) == 2
    assert "MathLLMs/MathVision" in capsys.readouterr().err
    monkeypatch.chdir(home)
    (file,) = home.glob("out/**/*_samples_mathvision_testmini.jsonl")
    text = file.read_text()
    file.write_text(text.replace('"target": "6"', '"target": "5"'))
    try:
        assert main(run) == 2
    finally:
        file.write_text(text)
    assert "question 0 of task `mathvision_testmini`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("logged", "score"),
    [
        (True, 1),
        (0, 0),
        (0.5, 0.5),
        ([1.0], 1),
        ([], None),
        ([1, 0], None),  # a pair may be a reference and a prediction
        ("True", 1),  # as numpy's truth values are logged
        (" 0.0 ", 0),
        ("incorrect", 0),
        ("B", None),
        (float("nan"), None),
        (None, None),
        ({"response": ["7"], "scores": [False]}, 0),
        ({"scores": [True, False]}, 1),  # two replies, of which the first is shown
        ({"true_false": False, "score": 1}, 0),
        ({"accuracy": {"correct": "true"}}, 1),
        ({"score": 1.0, "extraction": ["12"]}, 1),
        ({"groups": {}, "correct": None}, None),
        ({"pred": "b ", "answer": "B"}, 1),
        ({"pred": "a cat on a mat", "answer": ["a cat"]}, None),  # a caption, which has another judge
        ({"prediction": "Step 1: It is B.", "answer": "B"}, None),  # the whole reply, which a judge reads
        ({"question_type": "open", "answer": ["0.5", "half"], "parsed_pred": [[0.5]]}, 1),
    ],
)
def test_forms_of_metrics(logged: Any, score: float | None) -> None:
    assert score_of(logged) == score


def found(*lines: Mapping[str, Any], **better: bool) -> Verdicts:
    samples = [Sample(TASK, doc_id, "reply", line) for doc_id, line in enumerate(lines)]
    return Verdicts(Run(Path("results.json"), {"higher_is_better": {TASK: better}}, {TASK: samples}), TASK)


def verdicts_of(verdicts: Verdicts, lines: Sequence[Mapping[str, Any]]) -> list[bool | None]:
    return [verdicts.of(Sample(TASK, doc_id, "reply", line)) for doc_id, line in enumerate(lines)]


def test_a_metric_of_all_questions_is_preferred_to_one_of_a_part() -> None:
    lines = [{"maths": 1, "all": 1}, {"logic": 0, "all": 0}]
    verdicts = found(*lines, maths=True, logic=True, all=True)
    assert (verdicts.names, verdicts_of(verdicts, lines)) == (["all"], [True, False])


def test_metrics_of_disjoint_parts_are_combined() -> None:
    lines = [{"maths": 1}, {"logic": 0}, {"maths": 0}]
    verdicts = found(*lines, maths=True, logic=True)
    assert (verdicts.names, verdicts_of(verdicts, lines)) == (["maths", "logic"], [True, False, False])


def test_metrics_that_do_not_judge_the_answer_are_never_verdicts() -> None:
    verdicts = found({"acc_score": 0.5, "format_score": 1.0, "bias": 1}, acc_score=True, format_score=True, bias=False)
    assert (verdicts.names, verdicts.scorer) == ([], None)
    assert "acc_score" in verdicts.missing[0]
    assert "format_score" not in verdicts.missing[0]


def test_questions_without_a_verdict_are_counted() -> None:
    verdicts = found({"acc": 1}, {"acc": None}, {"acc": 0}, acc=True)
    assert "1 of 3 questions" in verdicts.missing[0]
