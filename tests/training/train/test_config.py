"""Recipes: what is given with the package is valid, and what is not valid says so."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import atomthink_plugin.training
from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.cli import main
from atomthink_plugin.training.train.recipe import DpoRecipe, PolicyRecipe, load_recipe
from atomthink_plugin.training.train.trainer import schedule_of

RECIPES = Path(next(iter(atomthink_plugin.training.__path__))) / "recipes"

PUBLISHED = {
    # learning rate, warm-up, rows x accumulated, pixels, frozen
    "llava_llama3_8b": (2e-5, 0.03, (1, 4), 336 * 336, ("vision_tower",)),
    "emova_8b": (2e-6, 0.03, (1, 8), 448 * 448, ()),
    "llava1_5_7b": (2e-6, 0.1, (2, 2), 336 * 336, ()),
    "llama3_2_11b_vision": (2e-6, 0.1, (8, 2), 560 * 560, ()),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_recipes_have_the_published_numbers(name: str) -> None:
    recipe = load_recipe(PolicyRecipe, RECIPES / f"{name}.yaml")
    rate, warmup, rows, pixels, frozen = PUBLISHED[name]
    assert (recipe.learning_rate, recipe.warmup) == (rate, warmup)
    assert (recipe.batch_size, recipe.accumulate) == rows
    assert (recipe.max_pixels, recipe.freeze) == (pixels, frozen)
    assert (recipe.epochs, recipe.max_length, recipe.schedule) == (1, 4096, "cosine")
    assert recipe.data[0].format is None
    assert load_recipe(PolicyRecipe, RECIPES / f"{name}.yaml", ["data=mine.jsonl"]).format == "atomic"
    assert recipe.rates == ({"vision_tower": 2e-7} if name == "emova_8b" else {})


def test_the_other_files_are_valid_too() -> None:
    assert load_recipe(DpoRecipe, RECIPES / "dpo.yaml").lora is not None
    kinds = {file.stem: yaml.safe_load(file.read_text())["distributed_type"] for file in RECIPES.glob("accelerate/*")}
    assert kinds == {"ddp": "MULTI_GPU", "fsdp": "FSDP", "zero3": "DEEPSPEED"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "recipe.yaml"
    file.write_text("model: m\ndata: [a.jsonl, {file: b.jsonl, format: direct, weight: 0.5}]\nout: o\nlora: {r: 4}\n")
    return file


def test_the_command_line_goes_before_the_file(file: Path) -> None:
    given = ["learning_rate=1e-5", "lora.r=8", "data=c.jsonl", "rates={tower: 2e-7}", "betas=[0.9, 0.98]", "out=p"]
    recipe = load_recipe(PolicyRecipe, file, given)
    assert recipe.learning_rate == 1e-5
    assert recipe.lora is not None
    assert recipe.lora.r == 8
    assert [data.file for data in recipe.data] == [Path("c.jsonl")]
    assert recipe.rates == {"tower": 2e-7}
    assert recipe.betas == (0.9, 0.98)
    assert recipe.out == Path("p")
    assert [data.weight for data in load_recipe(PolicyRecipe, file).data] == [1.0, 0.5]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("learning_rat 1", "`learning_rat` is unknown (did you mean `learning_rate`?)"),
        ("learning_rate fast", "`learning_rate: 'fast'`"),
        ("batch_size 0", "`batch_size: 0`"),
        ("precision bf17", "`precision: 'bf17'`"),
        ("freeze (", "no regular expression"),
        ("data []", "names no file"),
        ("freeze tower", "`freeze` beside `lora`"),
        ("learning_rate", "--learning_rate"),
    ],
)
def test_what_is_wrong_is_named(file: Path, override: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "policy", str(file), *f"--{override}".split()]) == 2
    assert message in capsys.readouterr().err


def test_files_that_are_no_recipes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AtomThinkError, match=r"llava1_5_7b\.yaml`\?\).*training/recipes has dpo\.yaml"):
        load_recipe(PolicyRecipe, tmp_path / "llava1_5_7.yaml")
    with pytest.raises(AtomThinkError, match="cannot be read"):
        load_recipe(PolicyRecipe, tmp_path)
    for text, message in (("a: [", "is no YAML"), ("- a", "holds no"), ("out: o", "`model` is missing")):
        (tmp_path / "r.yaml").write_text(text)
        with pytest.raises(AtomThinkError, match=message):
            load_recipe(PolicyRecipe, tmp_path / "r.yaml")


def test_schedules_rise_and_fall_where_they_should(file: Path) -> None:
    def factors(*given: str) -> list[float]:
        return [schedule_of(load_recipe(PolicyRecipe, file, given), 10)(step) for step in range(10)]

    trapezoid = factors("schedule=trapezoid", "warmup=2", "decay_share=0.5")
    assert trapezoid == pytest.approx([1 / 3, 2 / 3, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2])
    assert factors("schedule=linear", "warmup=0") == pytest.approx([1 - step / 10 for step in range(10)])
    cosine = factors("schedule=cosine", "warmup=0.1")
    assert cosine[0] == 0.5
    assert cosine[1] == 1
    assert cosine[9] == pytest.approx(0.0301536896)
    assert factors("schedule=constant", "warmup=0") == [1.0] * 10
