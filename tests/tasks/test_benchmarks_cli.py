"""MathVista, MathVerse and MATH-Vision on lmms-eval's command line, and submissions from the written files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from atomthink_plugin.cli import main
from atomthink_plugin.report.run_reader import read
from atomthink_plugin.tasks.benchmarks.metrics import SCORER
from atomthink_plugin.tasks.harness_patches import KEEP_BUILTIN
from tests.tasks import scripted_plugin
from tests.tasks.cli import evaluate, results, samples
from tests.tasks.judge_server import Judge, judging
from tests.tasks.tiny_benchmarks import MATHVISTA, write

pytestmark = pytest.mark.slow


SCRIPT = {
    "mathvista_atomic_testmini/0": "The final answer is: 7.",
    "mathvista_atomic_testmini/1": "",
    "mathvista_atomic_testmini/2": "FAIL",
    "mathvista_testmini_cot/3": "The final answer is: Yes.",
    "mathverse_atomic_testmini/0": "Step 1: Look.\n\nStep 2: Look.\n\nStep 3: The final answer is: A.",
    "mathvision_atomic_testmini/1": "The final answer is: A.",
}
KEYLESS = "mathvista,mathverse_testmini_text,mathvista_atomic_testmini,mathverse_atomic,mathvision_atomic_testmini"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("data"))


class Finished:
    """A run of the command line: its folder and what it printed."""

    def __init__(self, home: Path, log: str) -> None:
        self.home, self.log = home, log

    def numbers(self, task: str) -> dict[str, Any]:
        assert list(self.home.glob("out/**/[0-9]*_results.json")), self.log
        found = results(self.home)["results"]
        assert task in found, self.log
        return {name.removesuffix(",none"): value for name, value in found[task].items() if name.endswith(",none")}


@pytest.fixture(scope="module")
def keyless(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    home = tmp_path_factory.mktemp("keyless")
    extra = scripted_plugin.install(home / "plugin", SCRIPT)
    return Finished(home, evaluate(home, data, KEYLESS, "--model", "scripted", extra=extra))


@pytest.fixture(scope="module")
def judged(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Finished, Judge]]:
    """A run with a key and a judge that replies 1 to everything."""
    home = tmp_path_factory.mktemp("judged")
    extra = scripted_plugin.install(home / "plugin", {"mathvista_atomic_testmini/0": "The final answer is: 7."})
    with judging() as judge:
        keys = {"OPENAI_API_KEY": "secret", "OPENAI_API_URL": judge.url, "ATOMTHINK_LLM_JUDGE": "1"}
        tasks = "mathvista_testmini_cot,mathverse_testmini_text_only,mathvista_atomic_testmini"
        log = evaluate(home, data, tasks, "--model", "scripted", extra={**extra, **keys})
        yield Finished(home, log), judge


def test_replaced_tasks_run_without_a_key_and_name_the_scorer(keyless: Finished) -> None:
    for task in ("mathvista_testmini_cot", "mathvista_testmini_solution", "mathverse_testmini_text_only"):
        assert keyless.numbers(task)["scorer"] == SCORER
        warnings = [line for line in keyless.log.splitlines() if f"`{task}`" in line and KEEP_BUILTIN in line]
        assert len(warnings) == 1
    assert keyless.numbers("mathvista_testmini_format")["acc"] == 1.0
    cot = keyless.numbers("mathvista_testmini_cot")
    assert cot["acc"] == pytest.approx(5 / 6)
    assert cot["by_category"] == {"general-vqa": pytest.approx(2 / 3, abs=1e-4), "math-targeted-vqa": 1.0}
    assert keyless.numbers("mathverse_testmini_text_lite")["acc"] == 1.0


def test_hidden_answers_give_predictions_and_no_accuracy(keyless: Finished) -> None:
    hidden = keyless.numbers("mathvista_test")
    assert hidden["acc"] is None
    assert hidden["correct"] == {"right": None, "of": 0, "low": None, "high": None}
    assert all(sample["correct"] is None for sample in samples(keyless.home, "mathvista_test"))


def test_wrong_empty_and_failed_replies_are_distinguished(keyless: Finished) -> None:
    found = keyless.numbers("mathvista_atomic_testmini")
    assert found["acc"] == 0.5
    assert found["correct"] == {"right": 3, "of": 6, "low": 0.1876, "high": 0.8124}
    assert found["no_reply"] == 2
    lines = samples(keyless.home, "mathvista_atomic_testmini")
    assert [line["correct"] for line in lines] == [False, False, False, True, True, True]
    assert [line["rule"] == "no reply" for line in lines] == [False, True, True, False, False, False]
    assert [line["token_counts"][0].get("status") for line in lines] == [None, None, "failed", None, None, None]


def test_breakdowns_are_in_the_results_and_not_in_the_table(keyless: Finished) -> None:
    table = keyless.numbers("mathvista_atomic_testmini")["breakdown"]
    assert list(table) == ["category", "task", "skill", "answer_type"]
    assert table["skill"]["commonsense"] == {"acc": 0.5, "right": 1, "of": 2, "low": 0.0945, "high": 0.9055}
    assert table["skill"]["arithmetic"]["of"] == 1
    assert table["answer_type"]["float"]["right"] == 1
    verse = keyless.numbers("mathverse_atomic_testmini")
    assert set(verse["by_version"]) == {
        "Text Dominant", "Text Lite", "Vision Intensive", "Vision Dominant", "Vision Only",
    }  # fmt: skip
    assert verse["by_version"]["Text Dominant"] == 0.5
    assert verse["breakdown"]["subject"]["Plane Geometry"]["right"] == 9
    vision = keyless.numbers("mathvision_atomic_testmini")
    assert vision["by_level"] == {"1": 1.0, "2": 0.0}
    assert vision["breakdown"]["subject"]["logic"]["acc"] == 0.0
    assert "by_category" in keyless.log
    assert "answer_type" not in keyless.log


def test_steps_are_measured_for_any_model(keyless: Finished) -> None:
    steps = keyless.numbers("mathverse_atomic_testmini")["steps"]
    assert steps == {"per_answer": 2.1, "well_formed": 0.9, "repeated": round(1 / 21, 4)}


def test_with_a_key_the_builtin_tasks_are_untouched(judged: tuple[Finished, Judge]) -> None:
    run, judge = judged
    vista, verse = (run.numbers(task) for task in ("mathvista_testmini_cot", "mathverse_testmini_text_only"))
    assert "llm_as_judge_eval" in vista
    assert "scorer" not in vista
    assert verse["gpt_eval_score"] == 1.0
    assert "scorer" not in verse
    assert KEEP_BUILTIN not in run.log
    assert all(key == "Bearer secret" for key, _ in judge.asked)
    assert sum("Extracted answer: " in prompt for _, prompt in judge.asked) == len(MATHVISTA)


def test_reports_read_the_verdicts_of_the_builtin_tasks_judge(judged: tuple[Finished, Judge]) -> None:
    run, _ = judged
    found = read(run.home / "out")
    vista, verse = (
        [question.correct for question in found.questions if question.task == task]
        for task in ("mathvista_testmini_cot", "mathverse_testmini_text_only")
    )
    assert vista == [line["llm_as_judge_eval"]["true_false"] for line in samples(run.home, "mathvista_testmini_cot")]
    assert verse == [True, True]
    assert list(found.missing) == []


def test_both_verdicts_are_in_the_samples_if_the_judge_is_enabled(judged: tuple[Finished, Judge]) -> None:
    run, _ = judged
    first, *others = samples(run.home, "mathvista_atomic_testmini")
    assert first["llm_judge"]["correct"] is True
    assert first["correct"] is first["llm_judge"]["rules"] is False
    assert all(line["correct"] and line["llm_judge"]["correct"] for line in others)
    metrics = run.numbers("mathvista_atomic_testmini")
    assert metrics["acc"] == pytest.approx(5 / 6)
    assert metrics["llm_judge"]["acc"] == 1.0
    assert metrics["llm_judge"]["agreement"] == pytest.approx(5 / 6)
    assert metrics["llm_judge"]["failed"] == 0


def official_accuracy(file: Path) -> float:
    """Returns the score of MathVista's `calculate_score.py`: a prediction is right if its text is the answer."""
    entries = json.loads(file.read_text()).values()
    return sum(str(entry["prediction"]).strip() == str(entry["answer"]).strip() for entry in entries) / len(entries)


def test_mathvistas_file_scores_as_the_task_did(keyless: Finished, tmp_path: Path) -> None:
    file = tmp_path / "output.json"
    for task in ("mathvista_testmini_cot", "mathvista_testmini_solution"):
        arguments = ["submit", "mathvista", str(keyless.home / "out"), "--task", task, "--out", str(file)]
        assert main(arguments) == 0
        assert official_accuracy(file) == keyless.numbers(task)["acc"]
        entries = json.loads(file.read_text())
        assert [entry["true_false"] for entry in entries.values()] == [
            sample["correct"] for sample in samples(keyless.home, task)
        ]


def test_hidden_answers_are_submitted_without_them(keyless: Finished, tmp_path: Path) -> None:
    file = tmp_path / "output.json"
    assert main(["submit", "mathvista", str(keyless.home), "--task", "mathvista_test", "--out", str(file)]) == 0
    entries = json.loads(file.read_text())
    assert list(entries) == [row[0] for row in MATHVISTA]
    assert not any({"answer", "true_false"} & entry.keys() for entry in entries.values())


def test_failed_questions_are_never_submitted(
    keyless: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "output.json"
    arguments = ["submit", "mathvista", str(keyless.home), "--task", "mathvista_atomic_testmini", "--out", str(file)]
    assert main(arguments) == 2
    printed = capsys.readouterr().err
    assert [int(number) for number in re.findall(r"\b\d+\b", printed.partition("mathvista:")[2])] == [4, 1, 1, 0]
    assert not file.exists()
    assert main([*arguments, "--allow-incomplete"]) == 0
    entries = json.loads(file.read_text())
    assert "3" not in entries
    assert entries["2"]["response"] == ""
    assert entries["2"]["prediction"] is None
    assert entries["2"]["true_false"] is False


def test_mathverse_and_mathvision_write_their_own_files(
    keyless: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(keyless.home / "out")
    assert main(["submit", "mathverse", out]) == 2
    assert "--task" in capsys.readouterr().err
    task = "mathverse_atomic_testmini"
    assert main(["submit", "mathverse", out, "--task", task, "--out", str(tmp_path / "verse.json")]) == 0
    verse = json.loads((tmp_path / "verse.json").read_text())
    assert [entry["sample_index"] for entry in verse] == [str(n) for n in range(1, 11)]
    assert verse[0]["model_answer"] == SCRIPT["mathverse_atomic_testmini/0"]
    assert main(["submit", "mathvision", out, "--out", str(tmp_path / "vision.jsonl")]) == 0
    vision = [json.loads(line) for line in (tmp_path / "vision.jsonl").read_text().splitlines()]
    assert [(entry["id"], entry["correct"]) for entry in vision] == [("4", True), ("9", False)]


def test_separate_questions_are_answered_directly_and_scored_steps_are_reported(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--model", "atomthink_tiny", "--model_args", "thinking=slow,max_steps=4,retries=1")
    log = evaluate(tmp_path, data, "mathvista_atomic_testmini_separate", *options)
    run = Finished(tmp_path, log)
    general, math = (f"mathvista_atomic_testmini_separate_{part}" for part in ("general", "math"))
    assert run.numbers(general)["by_category"].keys() == {"general-vqa"}
    assert run.numbers(math)["by_category"].keys() == {"math-targeted-vqa"}
    together = run.numbers("mathvista_atomic_testmini_separate")["correct"]
    assert together["of"] == 6
    assert together["right"] == sum(run.numbers(task)["correct"]["right"] for task in (general, math))
    assert results(tmp_path)["configs"][general]["metadata"]["separate_eval"] is True
    asked = {line["doc_id"]: line["token_counts"][0] for line in samples(tmp_path, general)}
    assert all(counts["policy_calls"] == 1 and counts["step_scores"] == [] for counts in asked.values())
    thought = [line["token_counts"][0] for line in samples(tmp_path, math)]
    assert all(counts["policy_calls"] > 1 and len(counts["step_scores"]) == counts["steps"] for counts in thought)
    file = tmp_path / "steps.json"
    assert main(["steps", str(tmp_path), "--json", str(file)]) == 0
    rows = {(row["task"], row["part"]): row for row in json.loads(file.read_text())["rows"]}
    scores = [counts["step_scores"] for counts in thought]
    flat = [score for chain in scores for score in chain]
    assert rows[math, "all"]["score"] == pytest.approx(sum(flat) / len(flat))
    assert rows[math, "all"]["worst"] == pytest.approx(sum(map(min, scores)) / len(scores))
    assert rows[general, "all"]["score"] is None
    assert rows[math, "all"]["tokens"] == pytest.approx(sum(c["output_tokens"] for c in thought) / 3)
    assert math in capsys.readouterr().out
