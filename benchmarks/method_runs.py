"""Runs every search by lmms-eval with the embedded model on a benchmark with real images, and checks what it writes.

    python -m benchmarks.method_runs --data HUB --out runs

HUB is a folder with the benchmark's data set (`MathLLMs/MathVision/data/*.parquet`, see docs/how-to/offline.md). All
searches run in one process, with their default arguments besides `--arguments`. lmms-eval exits with 0 even if runs
fail, so the result files are read: each run has to leave one sample per question, with a reply unless the model wrote
no valid step within the limits, and no failed question in its journal. The embedded model was trained on other figures:
its answers are wrong here, and accuracies are not shown.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from atomthink_plugin.plugins.registry import registry

TASK = "mathvision_atomic_testmini"


@dataclass(frozen=True)
class Found:
    """What the files of one run hold.

    Attributes:
        search: The search.
        samples: Samples that lmms-eval wrote.
        empty: Samples without a reply.
        stuck: Questions for which the model wrote no valid step within the limits, so that there is no reply.
        failed: Questions that failed, with their reasons in the journal.
        answered: Questions with an answer.
        tokens: Generated tokens per question.
        extra: Of these, tokens of replies that are no steps of a chain.
        scored: Scored steps per question.
    """

    search: str
    samples: int
    empty: int
    stuck: int
    failed: int
    answered: int
    tokens: float
    extra: float
    scored: float

    def complete(self, limit: int) -> bool:
        """Returns whether every question has a sample with the chain that the model wrote, and none failed."""
        return self.samples == limit and self.empty == self.stuck and not self.failed


def run(searches: Sequence[str], data: Path, out: Path, limit: int, arguments: str) -> None:
    """Runs all searches in one process of lmms-eval; its output goes to `lmms-eval.txt`."""
    runs = [
        {
            "model": "atomthink_tiny",
            "model_args": f"thinking=slow,search={search},journal={out / search / 'journal'},{arguments}".rstrip(","),
            "tasks": TASK,
            "limit": limit,
            "log_samples": True,
            "output_path": str(out / search / "out"),
        }
        for search in searches
    ]
    out.mkdir(parents=True, exist_ok=True)
    (out / "runs.yaml").write_text(yaml.safe_dump(runs))
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(out / "hf")}
    command = [sys.executable, "-m", "lmms_eval", "--config", str(out / "runs.yaml")]
    with (out / "lmms-eval.txt").open("a") as log:
        subprocess.run(command, cwd=data, env=environment, stdout=log, stderr=subprocess.STDOUT, check=False)


def found(search: str, out: Path) -> Found:
    """Reads the files of one run."""
    folder = out / search
    samples = lines(sorted(folder.glob("out/**/*_samples_*.jsonl"))[-1:])
    records = lines(sorted(folder.glob("journal/*/rank*.jsonl")))
    outcomes = [record["outcome"] for record in records if record["status"] == "done"]
    extra = [sum(node["tokens"] * node["multiplicity"] for node in one["nodes"] if node["use"]) for one in outcomes]
    return Found(
        search=search,
        samples=len(samples),
        empty=sum(not sample["filtered_resps"].strip() for sample in samples),
        stuck=sum(not one["steps"] and one["stopped"] in ("invalid", "budget", "length") for one in outcomes),
        failed=len({record["question"] for record in records if record["status"] == "failed"}),
        answered=sum(one["answer"] is not None for one in outcomes),
        tokens=mean([one["usage"]["generated"] for one in outcomes]),
        extra=mean(extra),
        scored=mean([one["usage"]["score_calls"] for one in outcomes]),
    )


def mean(values: Sequence[float]) -> float:
    return round(fmean(values), 1) if values else 0.0


def lines(files: Sequence[Path]) -> list[dict[str, Any]]:
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="HUB", help="folder that holds MathLLMs/MathVision")
    parser.add_argument("--out", type=Path, required=True, help="folder of runs, journals and the log")
    parser.add_argument("--limit", type=int, default=20, help="questions of each run")
    parser.add_argument(
        "--arguments", default="", help="further model arguments of all runs, such as `budget_calls=64`"
    )
    parser.add_argument("--only", nargs="*", metavar="SEARCH", help="searches to run (default: all)")
    options = parser.parse_args()
    searches, out = options.only or list(registry().searches), options.out.absolute()
    run(searches, options.data, out, options.limit, options.arguments)
    rows = [found(search, out) for search in searches]
    table = Table(*(field.name for field in fields(Found)))
    for row in rows:
        table.add_row(*(str(getattr(row, field.name)) for field in fields(Found)))
    Console(width=110).print(table)
    if incomplete := [row.search for row in rows if not row.complete(options.limit)]:
        sys.exit(f"incomplete: {', '.join(incomplete)}. Read {out / 'lmms-eval.txt'} and the journals")


if __name__ == "__main__":
    main()
