"""Real runs of lmms-eval's command line on the tiny benchmarks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

JUDGE = ("OPENAI_API_KEY", "AZURE_API_KEY", "API_TYPE", "OPENAI_API_URL", "MODEL_VERSION")
"""What a developer's own environment may say of a judge."""


def environment(home: Path, extra: Mapping[str, str]) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if name not in JUDGE and not name.startswith("ATOMTHINK")}
    settings = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    folders = {"HF_HOME": str(home / "hf"), "XDG_CACHE_HOME": str(home / "cache"), "LMMS_EVAL_DATASETS_CACHE": ""}
    return {**own, **settings, **folders, "HF_DATASETS_CACHE": str(home / "data"), **extra}


def evaluate(home: Path, data: Path, tasks: str, *options: str, extra: Mapping[str, str] = {}) -> str:
    """Runs the command line in the folder with the data; results go to `home/out`. Returns what it printed."""
    output = ("--log_samples", "--output_path", str(home / "out"))
    done = subprocess.run(
        [sys.executable, "-m", "lmms_eval", "--tasks", tasks, *options, *output],
        env=environment(home, extra),
        cwd=data,
        capture_output=True,
        text=True,
        check=False,
        timeout=3600,
    )
    return done.stdout + done.stderr


def results(home: Path) -> dict[str, Any]:
    (file,) = home.glob("out/**/[0-9]*_results.json")
    loaded: dict[str, Any] = json.loads(file.read_text())
    return loaded


def samples(home: Path, task: str) -> list[dict[str, Any]]:
    (file,) = home.glob(f"out/**/*_samples_{task}.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]
