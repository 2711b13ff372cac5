"""Processes that share a model's weights run the same layers, whatever their rows have."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.utils import FullyShardedDataParallelPlugin
from safetensors.torch import load_file
from transformers.core_model_loading import WeightRenaming

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.cli import main
from atomthink_plugin.inference.checkpoints import Checkpoint, load_multimodal
from atomthink_plugin.training.records import Chain, write_records
from atomthink_plugin.training.train import policy
from atomthink_plugin.training.train.checkpoint import freeze, load_trainable, prepare_for_sharding
from atomthink_plugin.training.train.collate import IGNORED
from atomthink_plugin.training.train.dataset import RowCollator, read_training_data
from atomthink_plugin.training.train.policy import train_policy
from atomthink_plugin.training.train.recipe import PolicyRecipe
from atomthink_plugin.training.train.resume import resume_from
from atomthink_plugin.training.train.row_encoder import row_encoder
from atomthink_plugin.training.train.tokens import ChainRows, closing_id
from atomthink_plugin.training.train.trainer import RecipeTrainer, parameter_groups
from tests.training.processes import in_two_processes
from tests.training.train.demo_data import MODEL, MUON, demo_chains, recipe

TEXT = Chain(
    id="text", question="How much is 2 plus 3?", steps=("Step 1: To sum up, the final answer is: 5.",), answer="5"
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mixed")
    write_records(folder / "chains.jsonl", [*demo_chains(folder, 1), TEXT])
    return folder


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def losses(folder: Path) -> list[float]:
    done = in_two_processes("tests.training.train.sharded_step", str(folder))
    return [float(value) for _, value in sorted(re.findall(r"loss (\d) (\d+\.\d{6})", done.stdout))]


def collator_of(checkpoint: Checkpoint, data: Path) -> RowCollator:
    rows = ChainRows(row_encoder(checkpoint), closing_id(checkpoint), one_row_per_chain=True)
    return RowCollator(read_training_data(recipe(data), rows), checkpoint.pad_id)


@pytest.mark.slow
def test_a_row_without_an_image_waits_for_no_other(data: Path) -> None:
    checkpoint = load_multimodal(MODEL, device="cpu")
    collator = collator_of(checkpoint, data)
    with torch.no_grad():
        alone = [checkpoint.model(**collator([item])).loss.item() for item in collator.data.parts]
    assert losses(data) == pytest.approx(alone, abs=1e-4)


def test_a_spare_row_has_no_loss_and_is_added_if_no_other_has_an_image(data: Path) -> None:
    checkpoint = load_multimodal(MODEL, device="cpu")
    collator = collator_of(checkpoint, data).with_spare()
    with_image, without = collator.data.parts
    text, both = collator([without]), collator([with_image, without])
    assert (len(text["input_ids"]), len(text["pixel_values"])) == (2, 1)
    assert (text["labels"][1] == IGNORED).all()
    assert (len(both["input_ids"]), len(both["pixel_values"])) == (2, 1)


@pytest.mark.slow
@pytest.mark.parametrize("fsdp", [True, False])
def test_a_sharded_trainer_gets_a_spare_row(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fsdp: bool
) -> None:
    """Accelerate shards nothing on a CPU: it is said that it does, and the trainer is stopped before it trains."""
    seen = []

    def look(trainer: Any, *_: Any) -> None:
        seen.append(trainer.data_collator.spare)
        raise AtomThinkError("seen")

    monkeypatch.setattr(policy, "sharded", lambda trainer: fsdp)
    monkeypatch.setattr(policy, "run_training", look)
    with pytest.raises(AtomThinkError, match="seen"):
        train_policy(recipe(data, output_dir=tmp_path / "out", one_row_per_chain=True))
    assert [spare is not None for spare in seen] == [fsdp]


@pytest.mark.slow
def test_fsdp_trains_the_policy_that_one_process_trains(data: Path, tmp_path: Path) -> None:
    told = {"one_row_per_chain": True, "max_steps": 2, "save_steps": 2, "freeze": "vision_tower"}
    train_policy(recipe(data, output_dir=tmp_path / "alone", per_device_train_batch_size=2, **told))
    file = tmp_path / "r.yaml"
    file.write_text(
        recipe(data, output_dir=tmp_path / "shared", per_device_train_batch_size=1, **told).model_dump_json(
            exclude_unset=True
        )
    )
    done = in_two_processes("tests.training.fsdp_cli", "train", "policy", str(file))
    checkpoint = tmp_path / "shared" / "checkpoints" / "checkpoint-2"
    assert (checkpoint / "pytorch_model_fsdp.bin").exists(), done.stderr
    assert resume_from(recipe(data, output_dir=tmp_path / "shared", resume_from_checkpoint=True)) == str(checkpoint)
    same_training(tmp_path / "alone", tmp_path / "shared")


@pytest.mark.slow
def test_fsdp_trains_the_prm_that_one_process_trains(data: Path, tmp_path: Path) -> None:
    chains = lines(data / "chains.jsonl")
    labels = [[float(at % 2) for at in range(len(chain["steps"]))] for chain in chains]
    records = [{**chain, "labels": told} for chain, told in zip(chains, labels, strict=True)]
    write_records(data / "labelled.jsonl", records)
    told = {
        "model_name_or_path": MODEL,
        "data": str(data / "labelled.jsonl"),
        "step_tag": "<|step|>",
        "max_steps": 2,
        "logging_steps": 1,
    }
    told |= {
        "bf16": False,
        "save_dtype": "float32",
        "learning_rate": 1e-3,
        "token_loss_weight": 0.3,
        "lm_loss_weight": 1.0,
        "save_steps": 2,
    }
    told |= {"freeze": "vision_tower"}  # where AdamW makes steps of the rounding of gradients that are none
    for name, size in (("alone", 2), ("shared", 1)):
        (tmp_path / f"{name}.yaml").write_text(
            json.dumps({**told, "output_dir": str(tmp_path / name), "per_device_train_batch_size": size})
        )
    assert main(["train", "prm", str(tmp_path / "alone.yaml")]) == 0
    done = in_two_processes("tests.training.fsdp_cli", "train", "prm", str(tmp_path / "shared.yaml"))
    assert (tmp_path / "shared" / "checkpoints" / "checkpoint-2" / "pytorch_model_fsdp.bin").exists(), done.stderr
    same_training(tmp_path / "alone", tmp_path / "shared")


def same_training(alone: Path, shared: Path) -> None:
    """The same losses and weights, but that tied ones, once gathered, are written twice."""
    logs = [lines(folder / "log.jsonl") for folder in (alone, shared)]
    assert [line["loss"] for line in logs[1]] == pytest.approx([line["loss"] for line in logs[0]], rel=1e-4)
    assert "NaN" not in (shared / "log.jsonl").read_text()
    mine, theirs = (load_file(folder / "model.safetensors") for folder in (alone, shared))
    assert {name for name in mine.keys() ^ theirs.keys() if not name.endswith("lm_head.weight")} == set()
    assert all(torch.allclose(mine[name], theirs[name], atol=1e-4) for name in mine.keys() & theirs.keys())


def test_accelerate_finds_the_layers_that_it_gathers() -> None:
    model = load_trainable(
        PolicyRecipe.model_validate({"model_name_or_path": MODEL, "data": "none", "output_dir": "none"})
    ).model
    plugin = FullyShardedDataParallelPlugin(fsdp_version=2, auto_wrap_policy="transformer_based_wrap")
    plugin.set_auto_wrap_policy(model)
    wrapped = plugin.auto_wrap_policy.keywords["transformer_layer_cls"]  # type: ignore[union-attr]
    assert {"CLIPEncoderLayer", "LlamaDecoderLayer"} <= {layer.__name__ for layer in wrapped}


def test_weights_keep_their_names_whatever_the_model_might_have_renamed(tmp_path: Path) -> None:
    """DeepSpeed's loading leaves all known renamings in the model, even those that found nothing."""
    model: Any = load_multimodal(MODEL, device="cpu").model
    model._weight_conversions = [*model._weight_conversions, WeightRenaming("model.old_tower", "model.vision_tower")]
    prepare_for_sharding(model)
    model.save_pretrained(tmp_path)
    assert load_file(tmp_path / "model.safetensors").keys() <= load_file(Path(MODEL) / "model.safetensors").keys()


def test_weights_that_deepspeed_has_taken_are_counted_and_decay_as_what_they_are() -> None:
    model = torch.nn.ModuleDict({"tower": torch.nn.Linear(2, 3), "head": torch.nn.Linear(3, 5)})
    for parameter in model.parameters():
        parameter.ds_numel, parameter.ds_shape = parameter.numel(), parameter.shape  # type: ignore[attr-defined]
        parameter.data = torch.empty(0)
    assert freeze(model, ("tower",)) == 20
    fields = {"model_name_or_path": "m", "data": "d", "output_dir": "o", "weight_decay": 0.1}
    groups = parameter_groups(model.named_parameters(), PolicyRecipe.model_validate(fields))
    decays = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    assert decays == {id(model["head"].weight): 0.1, id(model["head"].bias): 0.0}


@pytest.mark.parametrize("way", ["is_fsdp_enabled", "is_deepspeed_enabled"])
def test_muon_gets_no_parts_of_matrices(data: Path, way: str) -> None:
    trainer: Any = RecipeTrainer(recipe=recipe(data), optimizer_factory=MUON)
    trainer.optimizer, trainer.model = None, torch.nn.Linear(2, 2)
    trainer.is_fsdp_enabled = trainer.is_deepspeed_enabled = False
    setattr(trainer, way, True)
    with pytest.raises(AtomThinkError, match="`muon`"):
        trainer.create_optimizer()
    setattr(trainer, way, False)
    assert len(trainer.create_optimizer().param_groups) == 2
