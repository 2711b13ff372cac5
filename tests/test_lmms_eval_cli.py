"""The plugin as its users run it: the real command line, and the files it leaves.

Every test reads the result files.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests import commands

pytestmark = pytest.mark.slow


SHARED_HUB = Path(__file__).parents[2] / "shared" / "data" / "hub"
INSTALLED = (str(Path(sys.executable).with_name("lmms-eval")),)
"""The console script itself, which starts a process of its own."""


def environment(home: Path) -> dict[str, str]:
    return commands.environment(home / "cache", {"ACCELERATE_USE_CPU": "true"})


def command(
    home: Path,
    *arguments: str,
    model_args: str,
    model: str = "atomthink_tiny",
    launcher: tuple[str, ...] = ("lmms-eval",),
) -> list[str]:
    output = ("--log_samples", "--output_path", str(home / "out"))
    return [*launcher, "--model", model, "--model_args", model_args, *arguments, *output]


def run(home: Path, *arguments: str, cwd: Path | None = None, **kwargs: Any) -> str:
    done = commands.run(*command(home, *arguments, **kwargs), env=environment(home), cwd=cwd or home)
    return done.stdout + done.stderr


def results(home: Path) -> dict[str, Any]:
    (file,) = home.glob("out/**/*_results.json")
    loaded: dict[str, Any] = json.loads(file.read_text())
    return loaded


def samples(home: Path) -> list[dict[str, Any]]:
    (file,) = home.glob("out/**/*_samples_*.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]


def rounded(written: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Samples without the last bits of numbers, which may depend on what else was in a batch."""
    found: list[dict[str, Any]] = json.loads(json.dumps(written), parse_float=lambda number: round(float(number), 4))
    return found


def journaled(home: Path) -> list[dict[str, Any]]:
    """All whole records of all processes."""
    records = []
    for file in home.glob("cache/atomthink/journal/*/rank*.jsonl"):
        for line in file.read_text().splitlines():
            try:
                records.append(json.loads(line))
            except ValueError:
                continue
    return records


def test_slow_thinking_leaves_results_and_samples_with_their_steps(tmp_path: Path) -> None:
    options = ("--limit", "12", "--batch_size", "64", "--gen_kwargs", "max_new_tokens=300")
    search = "thinking=slow,search=beam,beams=2,candidates=2"
    log = run(tmp_path, "--tasks", "atomthink_demo", *options, model_args=search, launcher=INSTALLED)
    found = results(tmp_path)
    assert "atomthink_demo" in found["results"], log
    accuracy = found["results"]["atomthink_demo"]["acc,none"]
    written = samples(tmp_path)
    assert [sample["doc_id"] for sample in written] == list(range(12))
    for sample in written:
        counts = sample["token_counts"][0]
        assert sample["n_steps"] == len(sample["steps"]) == counts["steps"]
        assert counts["status"] in {"answered", "unanswered"}
        assert counts["policy_calls"] >= 4
        assert counts["score_calls"] > 0
    assert sum(sample["acc"] for sample in written) / 12 == pytest.approx(accuracy)
    assert found["throughput"]["avg_questions"] == 12
    shares = {name: value for name, value in found["throughput"].items() if name.startswith("avg_policy_share_")}
    assert sum(shares.values()) - shares["avg_policy_share_encode"] == pytest.approx(1)
    assert found["throughput"]["avg_prm_most_rows"] >= found["throughput"]["avg_prm_mean_rows"] >= 1
    assert {record["status"] for record in journaled(tmp_path)} == {"done"}


def test_two_processes_share_the_questions_and_ask_each_once(tmp_path: Path) -> None:
    launcher = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "lmms_eval")
    log = run(tmp_path, "--tasks", "atomthink_demo", "--limit", "5", model_args="thinking=quick", launcher=launcher)
    assert sorted(sample["doc_id"] for sample in samples(tmp_path)) == list(range(5)), log
    asked = Counter(record["question"] for record in journaled(tmp_path))
    assert asked == Counter({f"atomthink_demo/test/{i}/0": 1 for i in range(5)})
    assert len(list(tmp_path.glob("cache/atomthink/journal/*/rank*.jsonl"))) == 2


def test_a_killed_run_continues_where_it_stopped(tmp_path: Path) -> None:
    model_args = "thinking=slow,search=best_of_n,n=4,concurrency=4"
    arguments = ("--tasks", "atomthink_demo", "--limit", "24", "--batch_size", "16")
    line = command(tmp_path, *arguments, model_args=model_args, launcher=INSTALLED)
    with subprocess.Popen(
        line, env=environment(tmp_path), cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as first:
        while first.poll() is None and len(journaled(tmp_path)) < 4:
            time.sleep(0.05)
        first.send_signal(signal.SIGKILL)
    before = {record["key"] for record in journaled(tmp_path)}
    assert 4 <= len(before) < 24
    log = run(tmp_path, *arguments, model_args=model_args)
    assert [sample["doc_id"] for sample in samples(tmp_path)] == list(range(24)), log
    after = Counter(record["key"] for record in journaled(tmp_path))
    assert len(after) == 24
    assert set(after.values()) == {1}
    assert before < set(after)
    whole = tmp_path / "whole"
    whole.mkdir()
    log = run(whole, *arguments, model_args=model_args)
    assert rounded(samples(tmp_path)) == rounded(samples(whole)), log


def test_bad_arguments_are_refused_by_name_before_any_question_is_asked(tmp_path: Path) -> None:
    log = run(tmp_path, "--tasks", "atomthink_demo", model_args="thinking=slow,search=beem")
    (message,) = [line for line in log.splitlines() if line.startswith("atomthink: ")]
    assert not [name for name in ("`search=beem`", "`beam`", "majority", "best_of_n") if name not in message]
    assert not list(tmp_path.glob("out/**/*.json"))
    assert not journaled(tmp_path)


def test_a_run_of_failures_has_no_accuracy_and_a_status(tmp_path: Path) -> None:
    """Documents 4 to 6 give steps to go on from, which a single reply cannot."""
    line = command(tmp_path, "--tasks", "atomic_capability", "--limit", "3", "--offset", "4", model_args="thinking=cot")
    done = commands.run(*line, env=environment(tmp_path), cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "|atomic_capability|" not in done.stdout
    assert "Traceback" not in done.stderr
    (message,) = [line for line in done.stderr.splitlines() if line.startswith("atomthink: ")]
    assert "3 questions" in message
    assert not list(tmp_path.glob("out/**/*_results.json"))
    assert {record["status"] for record in journaled(tmp_path)} == {"failed"}


def test_examples_that_a_task_does_not_have_are_refused_in_one_line(tmp_path: Path) -> None:
    few = ("--limit", "2", "--num_fewshot", "2")
    line = command(tmp_path, "--tasks", "atomthink_demo", *few, model_args="thinking=quick")
    done = commands.run(*line, env=environment(tmp_path), cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "`--num_fewshot 2`" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not SHARED_HUB.is_dir(), reason="the real MATH-Vision questions are not on this machine")
@pytest.mark.parametrize("model_args", ["thinking=quick", "thinking=slow,candidates=2"])
def test_real_questions_of_a_built_in_task_pass_through(tmp_path: Path, model_args: str) -> None:
    arguments = ("--tasks", "mathvision_testmini", "--limit", "16")
    log = run(tmp_path, *arguments, model_args=model_args + ",max_steps=3,retries=1", cwd=SHARED_HUB)
    assert "mathvision_testmini" in results(tmp_path)["results"], log
    written = samples(tmp_path)
    assert len(written) == 16
    assert all(sample["token_counts"][0]["status"] in {"answered", "unanswered"} for sample in written)
