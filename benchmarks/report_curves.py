"""The comparison of runs and the scaling curve in the documentation, from runs of the embedded model.

    python -m benchmarks.report_curves --runs runs

Runs lmms-eval on the demo task, once per mode, with samples and journals in the folder `--runs` (finished runs are
not repeated), then compares them with QuickThink and computes the scaling curve of the largest search:
`comparison.md` and `.json`, `scaling.md` and `.json` in `benchmarks/results`. A smaller run of that search shows how
accurate the estimated seconds are. `benchmarks/gallery.py` draws the curve.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from atomthink_plugin.report.compare import show as compare
from atomthink_plugin.report.replay import SelectionMethod
from atomthink_plugin.report.run_reader import read
from atomthink_plugin.report.scale import Scaling, grids, scaling
from atomthink_plugin.report.scale import show as scale
from benchmarks.provenance import provenance

RESULTS = Path(__file__).parent / "results"
WAYS = {
    "quick": "thinking=quick",
    "cot": "thinking=cot",
    "beam": "thinking=slow,search=beam",
    "best_of_16": "thinking=slow,search=best_of_n,n=16",
}
"""The first is what the others are compared with, the last is scaled."""

FEWER = 4
"""Candidates of a smaller run that shows how far the scaled one's estimated seconds are off."""


def evaluate(name: str, arguments: str, folder: Path, limit: int) -> Path:
    """Runs lmms-eval unless it has results already; returns the folder of its output."""
    out = folder / name
    if list(out.rglob("*_results.json")):
        return out
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "lmms_eval", "--model", "atomthink_tiny", "--tasks", "atomthink_demo"]
    command += ["--model_args", f"{arguments},journal={folder / 'journal'}", "--limit", str(limit)]
    subprocess.run([*command, "--log_samples", "--output_path", str(out)], env=environment, check=True)
    if not list(out.rglob("*_results.json")):  # lmms-eval returns 0 in any case
        raise SystemExit(f"lmms-eval left no results of {name}")
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description="The comparison of runs and the scaling curve.")
    parser.add_argument("--runs", type=Path, required=True, help="folder of runs and journals")
    parser.add_argument("--limit", type=int, default=200, help="questions of the demo task (default: all)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where tables go")
    options = parser.parse_args()
    folder = options.runs.absolute()
    runs = [evaluate(name, arguments, folder, options.limit) for name, arguments in WAYS.items()]
    to = options.results
    compare(runs, [], False, False, to / "comparison.json", to / "comparison.md")
    scale(runs[-1], None, {"json": to / "scaling.json"})
    found = scaling(runs[-1], None)
    smaller = evaluate(f"best_of_{FEWER}", f"thinking=slow,search=best_of_n,n={FEWER}", folder, options.limit)
    lines = [*found.notes, check(found, smaller)]
    notes = "".join(f"- {note}\n" for note in lines)
    (to / "scaling.md").write_text("\n".join([*(grid.markdown() for grid in grids(found)), notes]))
    print(notes)
    extend(to / "comparison.json", provenance())
    extend(to / "scaling.json", {**provenance(), "notes": lines})


def extend(file: Path, fields: dict[str, Any]) -> None:
    """Adds fields to a JSON file."""
    file.write_text(json.dumps(json.loads(file.read_text()) | fields, indent=1) + "\n")


def check(found: Scaling, smaller: Path) -> str:
    """Prints the time of a run with fewer candidates and the estimate from the larger one."""
    (point,) = (one for one in found.points if one.method == SelectionMethod("best_of_n", "mean") and one.n == FEWER)
    pace = read(smaller).pace
    assert pace is not None, "a resumed run has no wall time: remove its folder"
    return f"a run with n={FEWER} took {pace:.2f} s per question, estimated were {point.seconds:.2f}"


if __name__ == "__main__":
    main()
