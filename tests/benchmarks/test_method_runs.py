"""What the files of a run say about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.method_runs import found


def write(file: Path, records: list[dict[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(record) + "\n" for record in records))


def done(question: str, **changes: Any) -> dict[str, Any]:
    node = {"tokens": 5, "multiplicity": 2, "use": "judge"}
    outcome = {"answer": "4", "steps": ["So 4."], "stopped": "final", "nodes": [node, {**node, "use": ""}]}
    usage = {"generated": 30, "score_calls": 3}
    return {"question": question, "status": "done", "outcome": {**outcome, "usage": usage, **changes}}


FAILED = {"question": "q1", "status": "failed", "reason": "no"}
INVALID = {"answer": None, "steps": [], "stopped": "invalid"}


@pytest.mark.parametrize(
    ("replies", "records", "complete"),
    [
        (["So 4.", "So 4."], [done("q0"), done("q1")], True),
        (["So 4.", ""], [done("q0"), done("q1", **INVALID)], True),
        (["So 4.", ""], [done("q0"), done("q1")], False),
        (["So 4."], [done("q0"), done("q1")], False),
        (["So 4.", "So 4."], [done("q0"), FAILED], False),
        ([], [], False),
    ],
)
def test_a_run_is_complete_if_every_question_left_its_chain(
    replies: list[str], records: list[dict[str, Any]], complete: bool, tmp_path: Path
) -> None:
    write(tmp_path / "beam/out/m/1_samples_task.jsonl", [{"filtered_resps": reply} for reply in replies])
    write(tmp_path / "beam/journal/run/rank0.jsonl", records)
    assert found("beam", tmp_path).complete(2) is complete


def test_tokens_are_counted_by_what_they_were_for(tmp_path: Path) -> None:
    write(tmp_path / "beam/journal/run/rank0.jsonl", [done("q0"), done("q1")])
    run = found("beam", tmp_path)
    assert (run.answered, run.tokens, run.extra, run.scored) == (2, 30.0, 10.0, 3.0)
