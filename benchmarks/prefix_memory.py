"""Memory of the prompts of six samples with this code, beside another commit's.

    git worktree add ../before COMMIT
    python -m benchmarks.prefix_memory --before ../before --json benchmarks/results/prefix_memory.json

A beam search (B = 2, C = 3) of one question with both, in processes of their own: the embedded model, and a LLaVA with
random weights and 576 image tokens. The file holds for each model the first and the last step in which six samples
decode together, with the numbers of both (`prefix_memory_run.py` explains them) and `prompt_ratio` and `held_ratio`,
before over after.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.engine_change import both_codes, parser_of, run_with, short_commit
from benchmarks.provenance import provenance

MODELS = ("demo", "llava")


def compare(folders: dict[str, Path], model: str) -> dict[str, Any]:
    """Returns the record of a model."""
    runs = {name: run_with(folder, "prefix_memory_run.py", "--model", model) for name, folder in folders.items()}
    before, after = (runs[name]["steps"] for name in ("before", "after"))
    if [step["prompt_tokens"] for step in before] != [step["prompt_tokens"] for step in after]:
        raise SystemExit(f"{model}: the two commits did not search the same steps")
    samples = runs["after"]["samples"]
    return {"samples": samples, "first": beside(before[0], after[0]), "last": beside(before[-1], after[-1])}


def beside(before: dict[str, int], after: dict[str, int]) -> dict[str, Any]:
    """Returns the records of one step side by side."""
    ratios = {f"{one}_ratio": before[f"{one}_bytes"] / after[f"{one}_bytes"] for one in ("prompt", "held")}
    return {"before": before, "after": after, **ratios}


def main() -> None:
    options = parser_of(__doc__, MODELS).parse_args()
    commit = short_commit(options.before)
    record: dict[str, Any] = {**provenance(), "before": commit}
    grid = Table(title=f"MiB of prompts of six samples, this code and {commit}")
    for heading in ("model", "step", "before", "after", "ratio"):
        grid.add_column(heading, justify="right")
    with both_codes(options.before) as folders:
        for model in options.models:
            record[model] = compare(folders, model)
            for step in ("first", "last"):
                one = record[model][step]
                shown = [f"{one[code]['prompt_bytes'] / 2**20:.2f}" for code in folders]
                grid.add_row(model, step, *shown, f"{one['prompt_ratio']:.2f}")
    Console(width=100).print(grid)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
