"""CPU time and memory of a beam search with this code, beside another commit's.

    git worktree add ../before COMMIT
    python -m benchmarks.engine_change --before ../before --json benchmarks/results/engine_change.json

Both run in processes of their own, in turns, with one thread each for the same questions: the embedded model with 90
questions, 30 of them in flight, and a LLaVA with random weights and 576 image tokens with 8. The file holds for each
model the numbers of both (`engine_run.py` explains them; the median of all turns), `cpu_time_ratio`, before over after,
and `equal`: whether both generated the same steps.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.provenance import provenance

HERE = Path(__file__).parent.parent
SETTINGS = {"demo": (90, 30), "llava": (8, 8)}
"""Questions, and how many of them are in flight."""

ROOMS = ("model_adapters", "tasks", "training")
"""Folders of a checkout that are installed inside the package."""


def linked(checkout: Path, folder: Path) -> Path:
    """Makes a folder from which Python imports the package of a checkout that is not installed."""
    package = folder / "atomthink_plugin"
    package.mkdir(parents=True)
    for source in (*(checkout / "atomthink_plugin").iterdir(), *(checkout / room for room in ROOMS)):
        (package / source.name).symlink_to(source)
    (folder / "benchmarks").symlink_to(checkout / "benchmarks")
    return folder


@contextmanager
def both_codes(before: Path) -> Iterator[dict[str, Path]]:
    """Yields the folders of another checkout's package and of this one's."""
    with tempfile.TemporaryDirectory() as place:
        yield {
            "before": linked(before.resolve(), Path(place) / "before"),
            "after": linked(HERE, Path(place) / "after"),
        }


def short_commit(checkout: Path) -> str:
    """Returns the commit of a checkout."""
    command = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def run_with(folder: Path, script: str, *arguments: str) -> dict[str, Any]:
    """Returns what a script of this folder prints, run with the package in another one."""
    # -P keeps the script's own folder out of the path, PYTHONPATH puts the checkout before the installed package.
    command = [sys.executable, "-P", str(HERE / "benchmarks" / script), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    record: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return record


def measured(folder: Path, model: str) -> dict[str, Any]:
    """Returns what `engine_run.py` measures with the package in a folder."""
    questions, in_flight = map(str, SETTINGS[model])
    return run_with(folder, "engine_run.py", "--model", model, "--questions", questions, "--in-flight", in_flight)


def medians(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns the median of each number; all runs of one code have one digest."""
    numbers = {name for name, value in records[0].items() if not isinstance(value, str)}
    return {name: median(one[name] for one in records) if name in numbers else records[0][name] for name in records[0]}


def parser_of(description: str | None, models: Sequence[str]) -> argparse.ArgumentParser:
    """Returns the options of a script that compares two commits."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="a checkout of the other commit")
    parser.add_argument("--models", nargs="+", choices=models, default=models)
    parser.add_argument("--json", type=Path)
    return parser


def main() -> None:
    parser = parser_of(__doc__, sorted(SETTINGS))
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    commit = short_commit(options.before)
    record: dict[str, Any] = {**provenance(), "before": commit}
    grid = Table(title=f"beam search, this code and {commit}")
    for heading in ("model", "code", "CPU s per question", "peak MiB", "ratio"):
        grid.add_column(heading, justify="right")
    with both_codes(options.before) as folders:
        for model in options.models:
            runs: dict[str, list[dict[str, Any]]] = {"before": [], "after": []}
            for _ in range(options.turns):
                for name, folder in folders.items():
                    runs[name].append(measured(folder, model))
            both = {name: medians(records) for name, records in runs.items()}
            ratio = both["before"]["cpu_seconds_per_question"] / both["after"]["cpu_seconds_per_question"]
            record[model] = {"questions": SETTINGS[model][0], "in_flight": SETTINGS[model][1], **both}
            record[model]["cpu_time_ratio"] = ratio
            record[model]["equal"] = both["before"]["digest"] == both["after"]["digest"]
            for name, one in both.items():
                shown = [f"{one[key]:.3g}" for key in ("cpu_seconds_per_question", "peak_mib")]
                grid.add_row(model, name, *shown, f"{ratio:.2f}" if name == "after" else "")
    Console(width=100).print(grid)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
