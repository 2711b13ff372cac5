"""How long `atomthink score` takes for real candidates, with an empty and with a full file of scores.

    python -m benchmarks.score_rollouts --rollouts example_model_solutions.jsonl \
        --json benchmarks/results/score_rollouts.json

The candidates are the solutions of four models to GSM8K's questions, from https://github.com/openai/grade-school-math.
They are scored by a text PRM of random weights in the layout of AtomThinkPRM and by the embedded PRM. Times
are without imports; the second run takes all scores from the file.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from atomthink_plugin.rollouts.score_command import score_rollouts
from benchmarks.provenance import provenance
from benchmarks.random_models import SIZES, random_prm


def save_random_prm(folder: Path) -> str:
    """Writes a text PRM of random weights, and returns the `--prm` that names it."""
    made = random_prm(SIZES["tiny"], torch.device("cpu"), torch.float32)
    made.model.save_pretrained(folder)
    made.tokenizer.save_pretrained(folder)
    return f"{folder}:scorer=prm_token"


def measure(rollouts: str, questions: int, prm: str, scores: Path) -> dict[str, Any]:
    """Returns what scoring takes, with an empty file of scores and with a full one."""
    seconds, cpu = [], []
    for _ in range(2):
        started, used = time.perf_counter(), time.process_time()
        with contextlib.redirect_stdout(io.StringIO()):
            report = score_rollouts([rollouts], [prm], limit=questions, scores=scores)
        seconds.append(time.perf_counter() - started)
        cpu.append(time.process_time() - used)
    (found,) = report.scores
    assert found.scored == 0
    return {
        "questions": len(report.pools),
        "candidates": report.candidates,
        "unscored": found.failed.total(),
        "steps": found.usage.score_calls,
        "tokens_read": found.usage.prefilled,
        "tokens_from_cache": found.usage.cached,
        "seconds": round(seconds[0], 2),
        "seconds_of_scoring": round(found.usage.seconds, 2),
        "steps_per_second": round(found.usage.score_calls / found.usage.seconds, 1),
        "cpu_seconds": round(cpu[0], 2),
        "seconds_again": round(seconds[1], 2),
        "cpu_seconds_again": round(cpu[1], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", required=True)
    parser.add_argument("--questions", type=int, default=250)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prms: Mapping[str, str] = {
            "random text PRM, 0.14 M weights": save_random_prm(folder / "random"),
            "embedded PRM": "atomthink_tiny",
        }
        with contextlib.redirect_stdout(io.StringIO()):
            score_rollouts([given.rollouts], limit=1)  # imports and the first comparison of answers take seconds
        rows = {
            label: measure(given.rollouts, given.questions, prm, folder / f"{number}.jsonl")
            for number, (label, prm) in enumerate(prms.items())
        }
    record = {**provenance(), "load": "other work on both cores", "rows": rows}
    print(json.dumps(record, indent=1))
    if given.json:
        given.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
