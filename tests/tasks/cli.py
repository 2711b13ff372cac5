"""Real runs of lmms-eval's command line on the tiny benchmarks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests import commands


def evaluate(home: Path, data: Path, tasks: str, *options: str, extra: Mapping[str, str] = {}) -> str:
    """Runs the command line in the folder with the data; results go to `home/out`. Returns what it printed."""
    output = ("--log_samples", "--output_path", str(home / "out"))
    env = commands.environment(home / "cache", extra)
    done = commands.run("lmms-eval", "--tasks", tasks, *options, *output, cwd=data, env=env)
    return done.stdout + done.stderr


def results(home: Path) -> dict[str, Any]:
    (file,) = home.glob("out/**/[0-9]*_results.json")
    loaded: dict[str, Any] = json.loads(file.read_text())
    return loaded


def samples(home: Path, task: str) -> list[dict[str, Any]]:
    (file,) = home.glob(f"out/**/*_samples_{task}.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]
