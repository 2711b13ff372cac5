"""Models that are not ours, from the real command line: two of the harness's own, and one with code of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from atomthink_plugin.model_adapters.tiny import WEIGHTS
from tests.emova_standin import emova
from tests.llava_checkpoint import original
from tests.test_lmms_eval_cli import journaled, results, run, samples
from tests.tiny_models import folder, mllama, qwen

pytestmark = pytest.mark.slow


DEMO = ("--tasks", "atomthink_demo", "--limit", "3")
SHORT = "step_tokens=24,max_steps=2,retries=1"


def check(home: Path, log: str, steps: int = 2) -> None:
    """Random models answer nothing, but every question has had its steps and none has failed."""
    found = results(home)
    assert "atomthink_demo" in found["results"], log
    assert found["throughput"]["avg_failed_questions"] == 0
    assert found["throughput"]["avg_questions"] == 3
    for at, sample in enumerate(samples(home)):
        (counts,) = sample["token_counts"]
        assert (sample["doc_id"], counts["status"]) in {(at, "answered"), (at, "unanswered")}
        assert counts["policy_calls"] >= steps
        assert len(sample["steps"]) == counts["steps"] > 0
    assert len(journaled(home)) == 3
    assert "Model Responding" not in log


def test_a_chat_model_of_the_harness_is_searched_with_a_prm(tmp_path: Path) -> None:
    pytest.importorskip("decord", reason="the harness's own models import it")
    pixels = {"min_pixels": 28 * 28, "max_pixels": 28 * 28 * 16}
    config = {"base": "qwen2_5_vl", "base_args": {"pretrained": str(folder(qwen)), "device_map": "cpu", **pixels}}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({**config, "prm": str(WEIGHTS / "prm")}))
    # In batches, samples depend on their companions, and so on timing; many retries give each question a valid step.
    short = SHORT.replace("retries=1", "retries=20")
    typed = f"config=run.yaml,device=cpu,thinking=slow,search=beam,candidates=2,budget_calls=1000,{short}"
    log = run(tmp_path, *DEMO, "--batch_size", "4", model="atomthink_lmms", model_args=typed)
    check(tmp_path, log, steps=4)
    assert all(sample["token_counts"][0]["score_calls"] > 0 for sample in samples(tmp_path))


def test_a_simple_model_of_the_harness_needs_no_file(tmp_path: Path) -> None:
    pytest.importorskip("decord", reason="the harness's own models import it")
    own = f'base=llama_vision,pretrained={folder(mllama)},base_args={{"device_map":"cpu"}},device=cpu'
    log = run(tmp_path, *DEMO, model="atomthink_lmms", model_args=f"{own},thinking=quick,{SHORT}")
    check(tmp_path, log)


def test_llava_is_searched_in_the_format_of_its_original_code(tmp_path: Path) -> None:
    original(tmp_path / "model", tmp_path / "tower", with_tower=False)
    typed = f"pretrained={tmp_path / 'model'},device=cpu,thinking=slow,prm={WEIGHTS / 'prm'},candidates=2,{SHORT}"
    log = run(tmp_path, *DEMO, model="atomthink_llava", model_args=typed)
    check(tmp_path, log, steps=4)


def test_emova_runs_its_own_code_with_trust_remote_code(tmp_path: Path) -> None:
    typed = f"pretrained={folder(emova)},device=cpu,thinking=slow,prm={WEIGHTS / 'prm'},candidates=2,{SHORT}"
    log = run(tmp_path, *DEMO, model="atomthink_emova", model_args=f"{typed},trust_remote_code=True")
    check(tmp_path, log, steps=4)
