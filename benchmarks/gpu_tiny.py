"""The embedded model's recipe at ten times the data, on a GPU: a new policy, and a PRM for the shipped policy.

    python -m benchmarks.gpu_tiny --out DIR
    atomthink train tiny --out DIR --only 16 17 18
    python -m benchmarks.held_out --add --json benchmarks/results/held_out.json \
        --other-policy "tenfold policy=DIR/policy-tenfold" --other-prm "tenfold PRM=DIR/prm"

Every training of `training/recipes/tiny` takes as many steps as there, on batches ten times as large, from ten files of
questions for each, drawn by ten seeds about the same figures. The two halves run side by side. The policy's begins with
the recipe's base model. The PRM's begins with the shipped policy and the shipped PRM's eyes, and learns from the
shipped policy's own chains: this measures more data for the same task. Finished stages are not repeated.
`--times 2 --scale 0.01 --workers 2` is a quick test of all of it.

The committed results are those of all stages but the last on an H200, and of the last as `training/recipes/tiny` has it
on a CPU, after ten times the single steps; see `training/tiny/README.md`.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from atomthink_plugin.model_adapters.tiny import WEIGHTS
from atomthink_plugin.training.tiny.stages import RECIPES, run_stages

ROUNDS = ((("02",), ("08",)), (("01", "03", "04", "05"), ("07", "09", "10"), ("11",)), (("12",),))
"""Stages by lane. Lanes run in parallel, rounds in order. The last training needs the policy's chains."""

STAGES = {stage for lanes in ROUNDS for stages in lanes for stage in stages}


def seeds(first: int, times: int) -> list[int]:
    return [first + 100 * turn for turn in range(times)]


def copies(data: Any, times: int) -> list[dict[str, Any]]:
    """Returns `FOLDER/KIND-SEED.jsonl`, alone or under `file`, for each of its seeds.

    If a training uses part of a file, fewer files are used in full instead, because every named file is read.
    """
    entry = {"file": data} if isinstance(data, str) else data
    stem, _, seed = entry["file"].removesuffix(".jsonl").rpartition("-")
    whole = max(entry.get("weight", 1), 1)
    left = times * entry.get("weight", 1)
    made = []
    for one in seeds(int(seed), times):
        if left > 0:
            made.append({**entry, "file": f"{stem}-{one}.jsonl", "weight": min(whole, left)})
            left -= whole
    return made


def multiplied(recipe: dict[str, Any], times: int, workers: int) -> dict[str, Any]:
    """Returns a stage's recipe for so many times the data."""
    made = dict(recipe)
    if "files" in made:
        made["files"] = [{**file, "seed": seed} for file in made["files"] for seed in seeds(file["seed"], times)]
    if "data" in made:
        listed = [made["data"]] if isinstance(made["data"], str) else made["data"]
        made["data"] = [one for data in listed for one in copies(data, times)]
        made["per_device_train_batch_size"] *= times
        made["dataloader_num_workers"] = workers
    if made.get("output_dir") == "policy":
        made["output_dir"] = "policy-tenfold"
    return made


def write_recipes(folder: Path, times: int, workers: int) -> None:
    """Writes the recipes of all stages; that of the policy's chains once for each file of questions."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in RECIPES.glob("*.yaml"):
        stage, _, _ = file.name.partition("-")
        if stage not in STAGES:
            continue
        recipe = multiplied(yaml.safe_load(file.read_text()), times, workers)
        if stage != "11":
            (folder / file.name).write_text(yaml.safe_dump(recipe, sort_keys=False))
            continue
        pairs = zip(copies(recipe["questions"], times), copies(recipe["out"], times), strict=True)
        for turn, (asked, out) in enumerate(pairs):
            own = {**recipe, "questions": asked["file"], "out": out["file"]}
            (folder / f"{file.stem}_{turn}.yaml").write_text(yaml.safe_dump(own, sort_keys=False))


def lane(out: Path, stages: Sequence[str], scale: float) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    run_stages(out, stages, scale, out / "tenfold")


def side_by_side(out: Path, lanes: Sequence[Sequence[str]], scale: float) -> None:
    """Runs lanes of stages in parallel, and exits if one fails."""
    started = [multiprocessing.Process(target=lane, args=(out, stages, scale)) for stages in lanes]
    for process in started:
        process.start()
    for process in started:
        process.join()
    if any(process.exitcode for process in started):
        sys.exit("a stage failed: see its output above")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--times", type=int, default=10, help="the data")
    parser.add_argument("--scale", type=float, default=1.0, help="of steps and records, as for `train tiny`")
    parser.add_argument("--workers", type=int, default=7, help="processes that prepare the rows of each training")
    options = parser.parse_args()
    out = options.out
    write_recipes(out / "tenfold", options.times, options.workers)
    for name, source in (("policy", "policy"), ("eyes", "prm")):
        shutil.copytree(WEIGHTS / source, out / name, dirs_exist_ok=True)
    for lanes in ROUNDS:
        side_by_side(out, lanes, options.scale)


if __name__ == "__main__":
    main()
