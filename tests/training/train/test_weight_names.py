"""Weights are saved under the names that vLLM reads, whatever names the model was loaded from."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedTokenizerFast

from atomthink_plugin.model_adapters.tiny import WEIGHTS
from atomthink_plugin.training.tiny.model import load, save
from atomthink_plugin.training.train.checkpoint import write_checkpoint
from atomthink_plugin.training.train.weight_names import rename
from tests import tiny_models

SHIPPED = [WEIGHTS / "policy", WEIGHTS / "prm"]


def saved(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def loaded(folder: Path) -> Any:
    """The model of a checkpoint that has all of its weights and no others."""
    loader: Any = AutoModelForImageTextToText
    model, report = loader.from_pretrained(folder, dtype="auto", output_loading_info=True)
    assert not any(report.values())
    return model.eval()


def prefixed(names: Any) -> set[bool]:
    return {name.partition("vision_tower.")[2].startswith("vision_model.") for name in names if "vision_tower." in name}


def copy_without_prefix(folder: Path, copy: Path) -> Path:
    """The checkpoint as transformers saves a model that it built itself."""
    shutil.copytree(folder, copy)
    weights = {name.replace("vision_tower.vision_model.", "vision_tower."): one for name, one in saved(folder).items()}
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    return copy


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_shipped_weights_load_completely_and_have_the_names_of_the_hub(folder: Path) -> None:
    loaded(folder)
    assert prefixed(saved(folder)) == {True}


def test_a_tiny_model_gets_them_when_it_is_built(tmp_path: Path) -> None:
    save(load(copy_without_prefix(SHIPPED[0], tmp_path / "old")), words(SHIPPED[0]), tmp_path / "new")
    assert saved(tmp_path / "new").keys() == saved(SHIPPED[0]).keys()
    assert all(torch.equal(one, saved(SHIPPED[0])[name]) for name, one in saved(tmp_path / "new").items())


def words(folder: Path) -> PreTrainedTokenizerFast:
    made: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(folder)
    return made


@pytest.mark.parametrize("build", [tiny_models.llava, tiny_models.llava_next, tiny_models.gemma3])
def test_training_writes_them_with_and_without_the_prefix_in_the_model_it_loaded(
    build: Callable[[Path], Path], tmp_path: Path
) -> None:
    first = tiny_models.folder(build)
    assert prefixed(saved(first)) == {False}
    for at in range(2):
        model = loaded(first)
        folder = tmp_path / str(at)
        write_checkpoint(model, model.state_dict(), "float32", AutoProcessor.from_pretrained(first), folder)
        assert prefixed(saved(folder)) == {True}
        state = loaded(folder).state_dict()
        assert all(torch.equal(one, state[name]) for name, one in model.state_dict().items())
        first = folder


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_renaming_a_checkpoint_changes_no_value(folder: Path, tmp_path: Path) -> None:
    copy = copy_without_prefix(folder, tmp_path / "copy")
    assert prefixed(saved(copy)) == {False}
    for _ in range(2):
        rename(copy)
        assert saved(copy).keys() == saved(folder).keys()
        assert all(torch.equal(one, saved(copy)[name]) for name, one in saved(folder).items())
