"""Recipes: those that ship with the package are valid, and errors name the field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import TrainingArguments, get_scheduler
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.sft_config import SFTConfig

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.training.train.recipe import (
    RECIPES,
    RENAMED,
    DpoRecipe,
    PolicyRecipe,
    PrmRecipe,
    Recipe,
    load_recipe,
    recipe_text,
)
from atomthink_plugin.training.train.trainer import training_arguments

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
    assert (recipe.learning_rate, recipe.warmup_steps) == (rate, warmup)
    assert (recipe.per_device_train_batch_size, recipe.gradient_accumulation_steps) == rows
    assert (recipe.max_pixels, recipe.freeze) == (pixels, frozen)
    assert (recipe.num_train_epochs, recipe.max_length, recipe.lr_scheduler_type) == (1, 4096, "cosine")
    assert recipe.data[0].format is None
    assert load_recipe(PolicyRecipe, name, {"data": "mine.jsonl"}).format == "atomic"
    assert recipe.module_learning_rates == ({"vision_tower": 2e-7} if name == "emova_8b" else {})


def test_the_other_files_are_valid_too() -> None:
    assert load_recipe(DpoRecipe, "dpo").use_peft
    kinds = {file.stem: yaml.safe_load(file.read_text())["distributed_type"] for file in RECIPES.glob("accelerate/*")}
    assert kinds == {"ddp": "MULTI_GPU", "fsdp": "FSDP", "zero3": "DEEPSPEED"}


@pytest.mark.parametrize("file", sorted(RECIPES.glob("*.yaml")), ids=lambda file: file.stem)
def test_a_shipped_recipe_is_found_by_its_name(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert recipe_text(file.stem) == file.read_text()
    monkeypatch.chdir(tmp_path)
    Path(file.stem).write_text("model_name_or_path: mine\n")
    assert recipe_text(file.stem) == "model_name_or_path: mine\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "recipe.yaml"
    data = "[a.jsonl, {file: b.jsonl, format: direct, weight: 0.5}]"
    file.write_text(f"model_name_or_path: m\ndata: {data}\noutput_dir: o\nuse_peft: true\nlora_r: 4\n")
    return file


def test_overrides_take_precedence_over_the_file(file: Path) -> None:
    overrides = {"learning_rate": "1e-5", "lora_r": "8", "data": "c.jsonl", "output_dir": "p"}
    overrides |= {"module_learning_rates": "{tower: 2e-7}", "adam_beta2": "0.98", "lora_target_modules": "[q_proj, v]"}
    recipe = load_recipe(PolicyRecipe, file, overrides)
    assert (recipe.learning_rate, recipe.lora_r, recipe.adam_beta2) == (1e-5, 8, 0.98)
    assert [data.file for data in recipe.data] == [Path("c.jsonl")]
    assert recipe.module_learning_rates == {"tower": 2e-7}
    assert recipe.lora_target_modules == ("q_proj", "v")
    assert recipe.output_dir == Path("p")
    assert [data.weight for data in load_recipe(PolicyRecipe, file).data] == [1.0, 0.5]


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ({"learning_rat": "1"}, ("`learning_rat`", "`learning_rate`")),
        ({"dataloader_drop_las": "1"}, ("`dataloader_drop_las`", "`dataloader_drop_last`")),
        ({"learning_rate": "fast"}, ("`learning_rate: 'fast'`",)),
        ({"per_device_train_batch_size": "0"}, ("`per_device_train_batch_size: 0`",)),
        ({"max_steps": "0"}, ("`max_steps: 0`",)),
        ({"save_dtype": "bf17"}, ("`save_dtype: 'bf17'`",)),
        ({"fp16": "true", "bf16": "true"}, ("`fp16`", "`bf16`")),
        ({"freeze": "("}, ("`freeze", "'('")),
        ({"data": "[]"}, ("`data`",)),
        ({"data": "{fil: a}"}, ("`data.0.fil`", "`file`")),
        ({"freeze": "tower"}, ("`freeze`", "`use_peft`")),
        ({"use_peft": "false"}, ("`lora_r`", "`use_peft: true`")),
        ({"eval_strategy": "steps"}, ("`eval_strategy`",)),
        ({"muon": "0.02"}, ("`muon`",)),
        ({"seed": "["}, ("`seed`", "'['")),
    ],
)
def test_errors_name_the_field(file: Path, overrides: dict[str, str], named: tuple[str, ...]) -> None:
    with pytest.raises(AtomThinkError) as caught:
        load_recipe(PolicyRecipe, file, overrides)
    assert all(name in str(caught.value) for name in named)


@pytest.mark.parametrize("old", RENAMED)
def test_old_names_are_refused_with_the_new_ones(file: Path, old: str) -> None:
    new = RENAMED[old].split("`")[0].split(":")[0]
    kinds: list[type[Recipe]] = [PolicyRecipe, DpoRecipe, PrmRecipe]
    assert any(new in kind.model_fields for kind in kinds)
    for kind in kinds:
        with pytest.raises(AtomThinkError, match=f"`{old}` .*`{new}"):
            load_recipe(kind, file, {old: "1"})


def test_files_that_are_no_recipes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AtomThinkError, match=r"`llava1_5_7b`.*dpo"):
        load_recipe(PolicyRecipe, tmp_path / "llava1_5_7.yaml")
    with pytest.raises(AtomThinkError, match=str(tmp_path)):
        load_recipe(PolicyRecipe, tmp_path)
    for text, named in (("a: [", "r.yaml"), ("- a", "r.yaml"), ("output_dir: o", "`model_name_or_path`")):
        (tmp_path / "r.yaml").write_text(text)
        with pytest.raises(AtomThinkError, match=named):
            load_recipe(PolicyRecipe, tmp_path / "r.yaml")


def arguments(file: Path, **overrides: str) -> TrainingArguments:
    return training_arguments(TrainingArguments, load_recipe(PolicyRecipe, file, overrides))


def test_fields_reach_the_trainer_under_their_names(file: Path) -> None:
    given = arguments(
        file, adam_epsilon="1e-6", neftune_noise_alpha="5", save_steps="7", max_steps="3", data_seed="1", fp16="true"
    )
    assert (given.adam_epsilon, given.neftune_noise_alpha, given.data_seed) == (1e-6, 5, 1)
    assert (given.save_strategy, given.save_steps, given.max_steps) == ("steps", 7, 3)
    assert (given.fp16, given.bf16, given.learning_rate) == (True, False, 2e-5)
    assert given.output_dir == str(Path("o/checkpoints"))
    assert arguments(file).save_strategy == "no"
    assert arguments(file, save_strategy="epoch").save_strategy == "epoch"
    dpo = load_recipe(DpoRecipe, "dpo", {"loss_type": "[sigmoid, sft]", "loss_weights": "[1, 0.5]", "beta": "0.3"})
    tuned = training_arguments(DPOConfig, dpo, max_length=None)
    assert (list(tuned.loss_type), list(tuned.loss_weights or ()), tuned.beta) == (["sigmoid", "sft"], [1, 0.5], 0.3)
    long = load_recipe(PolicyRecipe, "llava1_5_7b")
    assert training_arguments(SFTConfig, long, max_length=None).max_length is None  # rows are measured, never cut


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ({"lr_scheduler_type": "trapezoid"}, "trapezoid"),
        ({"lr_scheduler_type": "warmup_stable_decay"}, "num_decay_steps"),
        ({"optim": "adamm"}, "adamm"),
    ],
)
def test_values_that_transformers_refuses_are_errors_before_a_model_is_loaded(
    file: Path, overrides: dict[str, str], named: str
) -> None:
    with pytest.raises(AtomThinkError, match=named):
        arguments(file, **overrides)


def test_schedules_are_those_of_transformers(file: Path) -> None:
    def factors(**overrides: Any) -> list[float]:
        given = arguments(file, **overrides)
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        schedule = get_scheduler(
            given.lr_scheduler_type, optimizer, given.get_warmup_steps(10), 10, given.lr_scheduler_kwargs
        )
        found = []
        for _ in range(10):
            found += schedule.get_last_lr()
            optimizer.step()
            schedule.step()
        return [float(rate) for rate in found]

    decay = "{num_decay_steps: 5, decay_type: linear}"
    trapezoid = factors(lr_scheduler_type="warmup_stable_decay", warmup_steps="2", lr_scheduler_kwargs=decay)
    assert trapezoid == pytest.approx([0, 1 / 2, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2])
    cosine = factors(lr_scheduler_type="cosine", warmup_steps="0.1")
    assert cosine[:2] == [0, 1]
    assert cosine[9] == pytest.approx(0.0301536896)
