"""`lmms-eval --model atomthink_vllm`, as a user types it."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.test_lmms_eval_cli import results, run, samples
from tests.vllm.vllm_server import ENGINE


def test_a_model_runs_in_vllm_by_name(policy_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "vllm.yaml").write_text(yaml.safe_dump({"engine": dict(ENGINE), "dtype": "float32"}))
    model_args = f"pretrained={policy_folder},config=vllm.yaml,step_tokens=48,max_steps=16"
    log = run(tmp_path, "--tasks", "atomthink_demo", "--limit", "12", model="atomthink_vllm", model_args=model_args)
    assert results(tmp_path)["results"]["atomthink_demo"]["acc,none"] > 0, log
    counts = [sample["token_counts"][0] for sample in samples(tmp_path)]
    assert len(counts) == 12
    assert all(one["status"] in ("answered", "unanswered") for one in counts)
    assert all(one["input_tokens"] > 0 and one["policy_calls"] > 0 for one in counts)
