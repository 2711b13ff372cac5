"""The recipes at ten times the data fit together, and learn from ten times the rows in as many steps."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import yaml

from atomthink_plugin.training.tiny.stages import RECIPES
from atomthink_plugin.training.train.recipe import PolicyRecipe, PrmRecipe, Recipe, checked_recipe
from benchmarks.gpu_tiny import write_recipes

KINDS: dict[str, type[Recipe]] = {"policy": PolicyRecipe, "prm": PrmRecipe}


def checked(file: Path) -> Recipe:
    fields = yaml.safe_load(file.read_text())
    fields.pop("muon")
    return checked_recipe(KINDS[file.stem.split("-")[1]], fields, file.name)


def written(recipes: Path) -> Counter[str]:
    """How many records each file gets, images' folder and all."""
    records: Counter[str] = Counter()
    for file in recipes.glob("*-data-*.yaml"):
        told = yaml.safe_load(file.read_text())
        for one in told["files"]:
            records[f"{told['figures']['folder']}/{one['name']}-{one['seed']}.jsonl"] += one["records"]
    for file in recipes.glob("*-chains-*.yaml"):
        told = yaml.safe_load(file.read_text())
        records[told["out"]] += records[told["questions"]]
    return records


def test_ten_times_the_rows_in_as_many_steps(tmp_path: Path) -> None:
    write_recipes(tmp_path, times=10, workers=3)
    once, tenfold = written(RECIPES), written(tmp_path)
    assert max(tenfold.values()) <= max(once.values())  # more files, no longer ones: they are written side by side
    trained = [file for file in sorted(tmp_path.glob("*.yaml")) if file.stem.split("-")[1] in KINDS]
    assert [file.name[:2] for file in trained] == ["03", "04", "05", "09", "10", "12"]
    for file in trained:
        before, after = (checked(one / file.name) for one in (RECIPES, tmp_path))
        rows = [sum(data.weight * counts[str(data.file)] for data in recipe.data)
                for recipe, counts in ((before, once), (after, tenfold))]  # fmt: skip
        assert rows[1] == pytest.approx(10 * rows[0])
        assert (after.per_device_train_batch_size, after.max_steps) == (
            10 * before.per_device_train_batch_size,
            before.max_steps,
        )
        assert len({data.file for data in after.data}) == len(after.data)
        assert after.dataloader_num_workers == 3
