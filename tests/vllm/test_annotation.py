"""Annotation with a vLLM server: the embedded model is a bad teacher, and the counts and costs still add up."""

from __future__ import annotations

import json
from pathlib import Path

from atomthink_plugin.cli import main
from atomthink_plugin.tasks.capability.record_set import demo_chains
from atomthink_plugin.tasks.demo.questions import held_out
from tests.vllm.vllm_server import VllmServer


def test_a_run_over_vllm_ends_with_every_question_in_one_place(policy_server: VllmServer, tmp_path: Path) -> None:
    records = [chain.model_dump(exclude={"steps"}) for chain in demo_chains(held_out(4), tmp_path)]
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    out = tmp_path / "out"
    typed = ["annotate", str(tmp_path / "questions.jsonl"), "--out", str(out), "--base-url", policy_server.url]
    assert main([*typed, "--teacher-model", str(policy_server.folder), "--tries", "1", "--max-steps", "3"]) == 0
    found = json.loads((out / "summary.json").read_text())
    assert found["asked"] == 4 == found["good"] + found["rejected"]
    assert "server" not in found["rejects"]
    assert "unfinished" not in found["rejects"]
    journal = [json.loads(line) for line in (out / "journal.jsonl").read_text().splitlines()]
    costs = [record["cost"] for record in journal if "cost" in record]
    assert found["spent"]["calls"] == len(costs)
    assert found["spent"]["prompt"] == sum(cost["prompt"] for cost in costs)
