"""Processes that measure records and prepare rows do what one process does, however they are started."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from atomthink_plugin.api import AtomThinkError, QuestionError
from atomthink_plugin.training.train import prm_samples as reward
from atomthink_plugin.training.train.checkpoint import load_trainable
from atomthink_plugin.training.train.measuring import measured
from atomthink_plugin.training.train.prm import Collator as PrmCollator
from atomthink_plugin.training.train.prm_checkpoint import load
from atomthink_plugin.training.train.prm_recipe import PrmRecipe
from atomthink_plugin.training.train.recipe import load_recipe
from atomthink_plugin.training.train.row_encoder import row_encoder
from atomthink_plugin.training.train.samples import Samples, samples_of
from atomthink_plugin.training.train.sft import Collator
from atomthink_plugin.training.train.tokens import Renderer, closing_id
from tests.training.train.demo_data import MODEL, demo_chains, recipe


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Chains with labels, of which every third is too long and every third has a format of its own."""
    folder = tmp_path_factory.mktemp("data")
    told = []
    for at, chain in enumerate(demo_chains(folder, 9)):
        record = {**chain.model_dump(exclude_none=True), "labels": [1.0] * len(chain.steps)}
        record |= {1: {"question": "How many? " * 400}, 2: {"format": "haiku"}}.get(at % 3, {})
        told.append(json.dumps(record) + "\n")
    (folder / "chains.jsonl").write_text("".join(told))
    return folder


def whole(number: int) -> int:
    if number % 100 == 7:
        raise QuestionError(f"{number} will not do")
    return number * number


@pytest.mark.parametrize("workers", [0, 2])
def test_records_are_measured_in_their_order_and_an_error_is_a_result(workers: int) -> None:
    before = torch.get_rng_state()
    found = list(measured(range(1000), whole, workers))
    assert torch.equal(torch.get_rng_state(), before)  # new adapters are those of the recipe's seed
    errors = {at: str(one) for at, one in enumerate(found) if isinstance(one, AtomThinkError)}
    assert errors == {at: f"{at} will not do" for at in range(7, 1000, 100)}
    assert all(one == at * at for at, one in enumerate(found) if at not in errors)


def policy_samples(data: Path, workers: int) -> tuple[Samples, Renderer, int]:
    told = recipe(data, one_row_per_chain=True, max_length=400, dataloader_num_workers=workers)
    checkpoint = load_trainable(told)
    encoder = row_encoder(checkpoint)
    renderer = Renderer(encoder, closing_id(checkpoint))
    return samples_of(told, encoder, renderer, 400), renderer, checkpoint.pad_id


def test_two_processes_set_aside_what_one_does(data: Path) -> None:
    alone, shared = (policy_samples(data, workers)[0] for workers in (0, 2))
    assert shared.counts == alone.counts == "chains: 9 read, 3 used, 6 set aside; 3 rows"
    assert (shared.places, shared.rejects) == (alone.places, alone.rejects)


def same(first: Any, second: Any) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def test_what_prepares_rows_of_a_policy_travels(data: Path) -> None:
    collator = Collator(*policy_samples(data, 0), None)
    same(pickle.loads(pickle.dumps(collator))([{"row": 2}]), collator([{"row": 2}]))


def test_what_prepares_rows_of_a_prm_travels_without_the_weights(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text(
        json.dumps(
            {
                "model_name_or_path": MODEL,
                "data": str(data / "chains.jsonl"),
                "output_dir": "out",
                "step_tag": "<|step|>",
            }
        )
    )
    told = load_recipe(PrmRecipe, file, {"max_length": "600", "images": "true"})
    model = load(told)
    samples = reward.samples_of(told, model.writer, 600)
    collator = PrmCollator(samples, told, model.writer, model.checkpoint.pad_id)
    packed = pickle.dumps(replace(collator, samples=replace(samples, records=samples.records[:1])))
    assert len(packed) < 200_000  # the weights are 2 MB
    mine, yours = collator([{"record": 0}]), pickle.loads(packed)([{"record": 0}])
    assert mine.pop("targets").counts.tolist() == yours.pop("targets").counts.tolist()
    same(mine, yours)


def test_processes_may_be_started_afresh(data: Path, tmp_path: Path) -> None:
    """As on macOS, and on Linux from Python 3.14 on, where nothing is inherited."""
    file, out = tmp_path / "r.yaml", tmp_path / "out"
    told = recipe(
        data, one_row_per_chain=True, max_length=400, dataloader_num_workers=1, max_steps=1, output_dir=out
    ).model_dump(mode="json", exclude_unset=True)
    file.write_text(json.dumps(told))
    script = tmp_path / "run.py"
    script.write_text(
        "import multiprocessing, sys\n"
        "from atomthink_plugin.cli import main\n"
        "if __name__ == '__main__':\n"
        "    multiprocessing.set_start_method('spawn')\n"
        f"    sys.exit(main(['train', 'policy', {str(file)!r}]))\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False, timeout=3600)
    assert done.returncode == 0, done.stderr
    assert (out / "model.safetensors").exists()
