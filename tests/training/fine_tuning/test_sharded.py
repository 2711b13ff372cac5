"""Processes that share a model's weights run the same layers, whatever their rows have."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.checkpoints import load_multimodal
from atomthink_plugin.training.chains import Chain, write_chains
from atomthink_plugin.training.fine_tuning import policy
from atomthink_plugin.training.fine_tuning.collating import IGNORED
from atomthink_plugin.training.fine_tuning.encoding import row_encoder
from atomthink_plugin.training.fine_tuning.policy import Collator
from atomthink_plugin.training.fine_tuning.records import samples_of
from atomthink_plugin.training.fine_tuning.rows import Renderer, closing_id
from tests.training.fine_tuning.demo_data import MODEL, demo_chains, recipe
from tests.training.processes import in_two_processes

TEXT = Chain(
    id="text", question="How much is 2 plus 3?", steps=("Step 1: To sum up, the final answer is: 5.",), answer="5"
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mixed")
    write_chains(folder / "chains.jsonl", [*demo_chains(folder, 1), TEXT])
    return folder


def losses(folder: Path) -> list[float]:
    done = in_two_processes("tests.training.fine_tuning.sharded_step", str(folder))
    return [float(value) for _, value in sorted(re.findall(r"loss (\d) (\d+\.\d{6})", done.stdout))]


def test_a_row_without_an_image_waits_for_nobody(data: Path) -> None:
    checkpoint = load_multimodal(MODEL, device="cpu")
    renderer = Renderer(row_encoder(checkpoint), closing_id(checkpoint))
    samples = samples_of(recipe(data, packed=True), row_encoder(checkpoint), renderer, None)
    collator = Collator(samples, renderer, checkpoint.pad_id, None)
    with torch.no_grad():
        alone = [checkpoint.model(**collator([{"row": i}])).loss.item() for i in range(2)]
    assert losses(data) == pytest.approx(alone, abs=1e-4)


def test_a_spare_row_is_not_learned_and_stands_where_no_other_has_an_image(data: Path) -> None:
    checkpoint = load_multimodal(MODEL, device="cpu")
    renderer = Renderer(row_encoder(checkpoint), closing_id(checkpoint))
    samples = samples_of(recipe(data, packed=True), row_encoder(checkpoint), renderer, None)
    collator = Collator(samples, renderer, checkpoint.pad_id, None).with_spare()
    text, both = collator([{"row": 1}]), collator([{"row": 0}, {"row": 1}])
    assert (len(text["input_ids"]), len(text["pixel_values"])) == (2, 1)
    assert (text["labels"][1] == IGNORED).all()
    assert (len(both["input_ids"]), len(both["pixel_values"])) == (2, 1)


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
    monkeypatch.setattr(policy, "run", look)
    with pytest.raises(AtomThinkError, match="seen"):
        policy.train_policy(recipe(data, out=tmp_path / "out", packed=True))
    assert [spare is not None for spare in seen] == [fsdp]
