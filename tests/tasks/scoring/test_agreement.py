"""On the benchmarks' real questions and on real responses with official verdicts, where these are at hand."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

from atomthink_plugin.tasks.scoring.judges import judge

from .records import QUESTIONS, SHARED, needs_data, questions

BENCHMARK = [sys.executable, "-m", "benchmarks.verdict_agreement"]
ROOT = Path(__file__).parents[3]
FILES = {
    "mathvista": SHARED / "mathvista/verdicts_dev.jsonl.gz",
    "mathvision": SHARED / "mathvision/verdicts_dev.jsonl.gz",
}


@pytest.mark.slow
@needs_data
@pytest.mark.parametrize("benchmark", QUESTIONS)
def test_stating_the_reference_is_right(benchmark: str) -> None:
    wrong: list[str] = []
    for question in questions(benchmark):
        gold = " and ".join(dict.fromkeys(question["answer"].split("\n")))
        forms = (
            f"The answer is {gold}",
            f"Step 2: To sum up, the final answer is: {gold}.",
            f"  The answer is {gold}\n",
        )
        wrong += [form for form in forms if not judge(benchmark, question, form).correct]  # type: ignore[arg-type]
    assert wrong == []


@pytest.mark.slow
@needs_data
@pytest.mark.parametrize(("benchmark", "bar"), [("mathvista", 0.99), ("mathvision", 0.975)])
def test_verdicts_agree_with_the_official_ones(benchmark: str, bar: float, tmp_path: Path) -> None:
    out = tmp_path / "agreement.json"
    done = subprocess.run(
        [*BENCHMARK, FILES[benchmark], "--json", out], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())["files"][f"{benchmark}/{FILES[benchmark].name}"]
    total = report["agreement"]["total"]
    assert total["supported"]["share"] >= bar
    assert total["all"]["rows"] > 5000
    assert total["all"]["agreed"] + total["all"]["false_credit"] + total["all"]["missed_credit"] == total["all"]["rows"]


@needs_data
def test_a_mathvista_file_scored_letter_by_letter_gives_our_verdicts() -> None:
    """The benchmark compares predictions and references as texts; a submission holds our normalized answers."""
    records = {question["pid"]: question for question in questions("mathvista")}
    with gzip.open(FILES["mathvista"], "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in islice(file, 0, None, 3)]
    for row in rows:
        question = records[row["pid"]]
        verdict = judge("mathvista", question, row["response"] or "")
        assert (str(verdict.normalized).strip() == question["answer"].strip()) == verdict.correct, (row, verdict)


def test_a_verdict_file_without_questions_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "verdicts.jsonl"
    file.write_text(json.dumps({"model": "m", "id": "1", "response": "3", "correct": True}) + "\n")
    done = subprocess.run([*BENCHMARK, file], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "questions.jsonl" in done.stderr
