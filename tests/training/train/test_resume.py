"""A training is resumed from the newest checkpoint that is complete, whatever a kill or a full disk left of others."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from atomthink_plugin.training.train.policy import train_policy
from atomthink_plugin.training.train.recipe import PolicyRecipe
from atomthink_plugin.training.train.resume import resume_from
from tests.training.train.demo_data import MUON, demo_chains, recipe

SAVED = ("trainer_state.json", "model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished training of four steps with checkpoints of the second and the fourth."""
    folder = tmp_path_factory.mktemp("trained")
    demo_chains(folder, 12)
    train_policy(told(folder, folder / "out"), MUON)
    return folder


def told(data: Path, out: Path, **more: object) -> PolicyRecipe:
    return recipe(
        data, output_dir=out, one_row_per_chain=True, lr_scheduler_type="constant", max_steps=4, save_steps=2, **more
    )


@pytest.fixture
def killed(trained: Path, tmp_path: Path) -> PolicyRecipe:
    """The same training, killed after its last checkpoint, as it is resumed."""
    shutil.copytree(trained / "out" / "checkpoints", tmp_path / "checkpoints")
    shutil.copy(trained / "out" / "log.jsonl", tmp_path)
    return told(trained, tmp_path, resume_from_checkpoint=True)


def tear(file: Path) -> None:
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])


@pytest.mark.slow
@pytest.mark.parametrize("name", SAVED)
def test_a_torn_or_missing_file_leads_to_the_checkpoint_before(
    killed: PolicyRecipe, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    newest, before = (killed.checkpoints / f"checkpoint-{step}" for step in (4, 2))
    assert resume_from(killed) == str(newest)
    assert not caplog.records
    tear(newest / name)
    assert resume_from(killed) == str(before)
    (newest / name).unlink()
    assert resume_from(killed) == str(before)
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(said) == 2
    assert all(str(newest) in line for line in said)
    assert name in said[0]


@pytest.mark.slow
def test_a_state_of_another_step_is_not_trusted(killed: PolicyRecipe) -> None:
    newest, before = (killed.checkpoints / f"checkpoint-{step}" for step in (4, 2))
    shutil.copy(before / "trainer_state.json", newest)
    assert resume_from(killed) == str(before)


@pytest.mark.slow
def test_split_weights_need_all_of_their_files(killed: PolicyRecipe) -> None:
    newest, before = (killed.checkpoints / f"checkpoint-{step}" for step in (4, 2))
    index = newest / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "model.safetensors"}}')
    assert resume_from(killed) == str(newest)
    index.write_text('{"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}')
    assert resume_from(killed) == str(before)


@pytest.mark.slow
def test_without_a_complete_checkpoint_it_starts_from_the_beginning(killed: PolicyRecipe) -> None:
    for folder in killed.checkpoints.glob("checkpoint-*"):
        tear(folder / "optimizer.pt")
    assert resume_from(killed) is None


@pytest.mark.slow
def test_a_resumed_run_ends_with_the_same_weights_and_keeps_its_own_checkpoints(
    killed: PolicyRecipe, trained: Path
) -> None:
    tear(killed.checkpoints / "checkpoint-4" / "trainer_state.json")
    train_policy(killed.model_copy(update={"save_steps": 1, "save_total_limit": 1, "max_steps": 3}), MUON)
    assert {folder.name for folder in killed.checkpoints.iterdir() if folder.is_dir()} == {
        "checkpoint-3",
        "incomplete-checkpoint-4",
    }
    train_policy(killed, MUON)
    expected, found = (load_file(out / "model.safetensors") for out in (trained / "out", killed.output_dir))
    assert all(torch.equal(value, found[name]) for name, value in expected.items())
