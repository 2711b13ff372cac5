"""Sample lines and metrics without lmms-eval; real runs are in `test_benchmarks_cli.py`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from atomthink_plugin.accuracy_stats import wilson
from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.tasks.benchmarks import llm_judge
from atomthink_plugin.tasks.benchmarks.mathvista.task import MATHVISTA, doc_to_text, doc_to_visual
from atomthink_plugin.tasks.benchmarks.metrics import (
    accuracy,
    breakdown,
    counts,
    headline_accuracy,
    pooled_counts,
    sample_line,
)
from atomthink_plugin.tasks.unprinted import Unprinted
from tests.tasks.tiny_benchmarks import mathvista_rows

DOC = mathvista_rows("testmini")[0]


def test_the_record_is_the_benchmarks_own_with_whole_numbers() -> None:
    record = sample_line(MATHVISTA, DOC, "The final answer is: 1.2.")["question"]
    assert record["precision"] == 1
    assert isinstance(record["precision"], int)
    assert "decoded_image" not in record
    assert json.loads(json.dumps(record)) == record


def test_an_empty_reply_is_wrong_and_counted_without_a_rule() -> None:
    line = sample_line(MATHVISTA, DOC, "  \n")
    assert (line["acc"], line["correct"], line["no_reply"], line["rule"]) == (0.0, False, True, "no reply")
    assert line["normalized"] is None


def test_a_hidden_answer_is_never_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(llm_judge.ENABLED, "1")
    line = sample_line(MATHVISTA, mathvista_rows("test")[0], "The final answer is: 1.2.")
    assert (line["acc"], line["correct"]) == (None, None)
    assert line["normalized"] == "1.2"
    assert "llm_judge" not in line


@pytest.mark.parametrize("raw", ["maybe", "10", "", "1 or 0"])
def test_a_reply_that_is_neither_0_nor_1_is_no_verdict(raw: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Undecided:
        def evaluate_binary(self, **_: Any) -> dict[str, Any]:
            return {"success": True, "raw_response": raw, "result": 1, "model": "m"}

    monkeypatch.setenv(llm_judge.ENABLED, "1")
    monkeypatch.setattr(llm_judge, "_server", lambda *_: Undecided())
    said = llm_judge.llm_verdict(lambda: "?", "1", "2")
    assert said is not None
    assert said["correct"] is None
    assert repr(raw) in said["error"]


def test_a_judge_that_cannot_be_made_is_an_error_in_the_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(llm_judge.ENABLED, "1")
    monkeypatch.setenv("API_TYPE", "nobody")
    said = sample_line(MATHVISTA, DOC, "The final answer is: 1.2.")["llm_judge"]
    assert said["correct"] is None
    assert "nobody" in said["error"]
    assert said["rules"] is True


def test_counts_leave_out_what_cannot_be_judged() -> None:
    low, high = wilson(1, 3)
    assert counts([True, None, False, False]) == {"right": 1, "of": 3, "low": round(low, 4), "high": round(high, 4)}
    assert accuracy([1.0, None, 0.0, 0.0]) == pytest.approx(1 / 3)
    assert accuracy([None]) is None


def test_a_group_pools_its_tasks_questions() -> None:
    parts = [counts([True] * 3 + [False]), counts([False] * 6), counts([None])]
    assert pooled_counts(parts, [4, 6, 1], True) == counts([True] * 3 + [False] * 7)


def test_a_question_counts_for_each_of_its_skills() -> None:
    items = [
        sample_line(MATHVISTA, doc, f"The final answer is: {doc['answer']}.") for doc in mathvista_rows("testmini")
    ]
    table = breakdown([item["breakdown"] for item in items])
    assert {skill: share["of"] for skill, share in table["skill"].items()} == {
        "arithmetic": 1, "commonsense": 2, "geometry": 1, "scientific reasoning": 1, "statistical reasoning": 2,
    }  # fmt: skip
    assert headline_accuracy([item["by_category"] for item in items]).keys() == {"general-vqa", "math-targeted-vqa"}


def test_unprinted_values_are_written() -> None:
    assert len(Unprinted({"a": 1})) == 0
    assert json.loads(json.dumps({"x": Unprinted({"a": {"b": 1}})}, indent=2)) == {"x": {"a": {"b": 1}}}


def test_a_missing_column_is_named() -> None:
    kwargs = {"shot_type": "step-by-step"}
    with pytest.raises(AtomThinkError, match="`unit`"):
        doc_to_text({name: value for name, value in DOC.items() if name != "unit"}, kwargs)
    with pytest.raises(AtomThinkError, match="`decoded_image`"):
        doc_to_visual({name: value for name, value in DOC.items() if name != "decoded_image"})
