"""The page of the keys of training recipes."""

from __future__ import annotations

from typing import Final

from described import Argument, entries, of_model, summary

from atomthink_plugin.training.train.recipe import RECIPES, DataFile, DpoRecipe, PolicyRecipe, PrmRecipe, Recipe

_KINDS: Final[tuple[tuple[str, type[Recipe]], ...]] = (
    ("atomthink train policy", PolicyRecipe),
    ("atomthink train dpo", DpoRecipe),
    ("atomthink train prm", PrmRecipe),
)


def recipe_keys() -> dict[str, list[Argument]]:
    """Returns the keys of a data file, those that all trainings share, and those of each training."""
    shared = of_model(Recipe, "a recipe")
    found = {"data": of_model(DataFile, "a data file of a recipe"), "shared": shared}
    for command, kind in _KINDS:
        same = [
            one.name for one in shared if kind.model_fields[one.name].default == Recipe.model_fields[one.name].default
        ]
        found[command] = of_model(kind, f"a recipe of `{command}`", leave_out=same)
    return found


def recipes_page() -> str:
    """Returns the page of all keys of recipes."""
    keys = recipe_keys()
    return "\n\n".join(
        [
            "# Training recipes",
            "Every key of the YAML files that `atomthink train policy`, `train dpo` and `train prm` read. "
            "[Train policies and PRMs](../how-to/train.md) shows how to use them.",
            *summary(Recipe).split("\n\n")[1:],
            "A key can be replaced on the command line: `--learning_rate 1e-5`. An unknown key, or a value that does "
            "not fit, is refused before anything is loaded.",
            "These recipes come with the package. `--print-recipe NAME` prints one of them:",
            _shipped(),
            "## Every training",
            entries(keys["shared"]),
            *(
                f"## `{command}`\n\n{summary(kind)}\n\n{entries(keys[command], command.split()[-1] + '-')}"
                for command, kind in _KINDS
            ),
            "## Data files",
            "An element of `data` is a path, or a mapping with these keys:",
            entries(keys["data"], "data-"),
        ]
    )


def _shipped() -> str:
    rows = ["| recipe | |", "|---|---|"]
    for file in sorted(RECIPES.glob("*.yaml")):
        comment: list[str] = []
        for line in file.read_text(encoding="utf-8").splitlines():
            if not line.startswith("# ") or (comment and comment[-1].endswith(".")):
                break
            comment.append(line.removeprefix("# "))
        rows.append(f"| `{file.stem}` | {' '.join(comment)} |")
    return "\n".join(rows)
