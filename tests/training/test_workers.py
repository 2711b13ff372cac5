"""Processes that measure records and prepare rows do what one process does, however they are started."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.training.records import Chain, write_records
from atomthink_plugin.training.train.checkpoint import load_trainable
from atomthink_plugin.training.train.dataset import RowCollator, TrainingData, read_training_data
from atomthink_plugin.training.train.prm_checkpoint import load
from atomthink_plugin.training.train.recipe import PrmRecipe
from atomthink_plugin.training.train.row_encoder import row_encoder
from atomthink_plugin.training.train.tokens import ChainRows, closing_id
from tests import commands, tiny_models
from tests.training.train.demo_data import MODEL, demo_chains, recipe


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Chains with labels, of which every third is too long and every third has a format of its own."""
    folder = tmp_path_factory.mktemp("data")
    written = []
    for at, chain in enumerate(demo_chains(folder, 9)):
        record = {**chain.model_dump(exclude_none=True), "labels": [1.0] * len(chain.steps)}
        record |= {1: {"question": "How many? " * 400}, 2: {"format": "haiku"}}.get(at % 3, {})
        written.append(json.dumps(record) + "\n")
    (folder / "chains.jsonl").write_text("".join(written))
    return folder


def training_data(data: Path, workers: int = 0, **more: Any) -> TrainingData[Chain]:
    loaded_recipe = recipe(data, one_row_per_chain=True, dataloader_num_workers=workers, **({"max_length": 400} | more))
    checkpoint = load_trainable(loaded_recipe)
    rows = ChainRows(row_encoder(checkpoint), closing_id(checkpoint), loaded_recipe.max_pixels, one_row_per_chain=True)
    return read_training_data(loaded_recipe, rows)


def test_two_processes_reject_what_one_does(data: Path) -> None:
    before = torch.get_rng_state()
    one, two = (training_data(data, workers) for workers in (0, 2))
    assert torch.equal(torch.get_rng_state(), before)  # new adapters are those of the recipe's seed
    assert (one.read, len(one.rejects), one.rejected_parts) == (9, 6, 0)
    assert one.parts.to_list() == two.parts.to_list() == [{"example": at, "part": 0} for at in (0, 3, 6)]
    assert one.rejects == two.rejects
    assert [one.record(item["example"]).id for item in one.parts] == ["0", "3", "6"]


def test_a_changed_image_is_measured_again(tmp_path: Path) -> None:
    """A cache that knows the records but not their images would keep the old lengths."""
    write_records(tmp_path / "chains.jsonl", [Chain(id="a", question="How many?", images=("a.png",), steps=("1.",))])
    loaded_recipe = {"model_name_or_path": str(tiny_models.folder(tiny_models.qwen)), "max_length": 190}
    tiny_models.picture(0, (28, 28)).save(tmp_path / "a.png")
    assert len(training_data(tmp_path, **loaded_recipe).parts) == 1
    tiny_models.picture(0, (112, 112)).save(tmp_path / "a.png")  # 15 tokens more
    with pytest.raises(AtomThinkError):
        training_data(tmp_path, **loaded_recipe)
    assert len(training_data(tmp_path, **loaded_recipe, max_pixels=28 * 28).parts) == 1


def same(first: Any, second: Any) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def test_what_prepares_rows_of_a_policy_travels(data: Path) -> None:
    found = training_data(data)
    collator, item = RowCollator(found, 0), found.parts[2]
    same(pickle.loads(pickle.dumps(collator))([item]), collator([item]))


def test_what_prepares_rows_of_a_prm_travels_without_the_weights(data: Path, tmp_path: Path) -> None:
    loaded_recipe = PrmRecipe.model_validate(
        {
            "model_name_or_path": MODEL,
            "data": str(data / "chains.jsonl"),
            "output_dir": tmp_path,
            "step_tag": "<|step|>",
            "max_length": 600,
        }
    )
    prm = load(loaded_recipe)
    found = read_training_data(loaded_recipe, prm.rows)
    collator, item = RowCollator(found, prm.checkpoint.pad_id), found.parts[0]
    packed = pickle.dumps(collator)
    assert len(packed) < 200_000  # the weights are 2 MB
    same(pickle.loads(packed)([item]), collator([item]))


@pytest.mark.slow
def test_processes_may_be_started_afresh(data: Path, tmp_path: Path) -> None:
    """As on macOS, and on Linux from Python 3.14 on, where nothing is inherited."""
    file, out = tmp_path / "r.yaml", tmp_path / "out"
    loaded_recipe = recipe(
        data, one_row_per_chain=True, max_length=400, dataloader_num_workers=1, max_steps=1, output_dir=out
    ).model_dump(mode="json", exclude_unset=True)
    file.write_text(json.dumps(loaded_recipe))
    script = tmp_path / "run.py"
    script.write_text(
        "import multiprocess, multiprocessing, sys\n"
        "from atomthink_plugin.cli import main\n"
        "if __name__ == '__main__':\n"
        "    multiprocessing.set_start_method('spawn')\n"
        "    multiprocess.set_start_method('spawn')\n"
        f"    sys.exit(main(['train', 'policy', {str(file)!r}]))\n"
    )
    done = commands.run("python", script, cwd=tmp_path, env=commands.environment(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    assert (out / "model.safetensors").exists()
