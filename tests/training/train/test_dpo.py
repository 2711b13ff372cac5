"""Preference tuning: `atomthink train dpo`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.api import Path as Steps
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.inference.checkpoints import Checkpoint, load_multimodal
from atomthink_plugin.inference.encoding import Encoder
from atomthink_plugin.training.records import engine_question
from atomthink_plugin.training.train.policy import train_dpo
from atomthink_plugin.training.train.recipe import DpoRecipe
from atomthink_plugin.training.train.row_encoder import load_image
from tests.training.train.demo_data import MODEL, counts, demo_chains


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Chains about the demo's figures."""
    folder = tmp_path_factory.mktemp("pairs")
    demo_chains(folder, 3)
    return folder


def margin(checkpoint: Checkpoint, pair: dict[str, Any], folder: Path) -> float:
    """How much likelier the chosen side is than the rejected one."""
    encoder, totals = Encoder(checkpoint), []
    path = Steps(engine_question("q", pair["question"], [load_image(folder / image, None) for image in pair["images"]]))
    prompt = encoder.encode(Continue().render(path))
    for side in ("chosen", "rejected"):
        ids = encoder.pieces([f"{step}\n\n" for step in pair[side]])
        inputs = prompt.extend(ids)
        with torch.no_grad():
            logits = checkpoint.model(**inputs.tokens, **inputs.media).logits[0, -len(ids) - 1 : -1]
        totals.append(torch.log_softmax(logits, -1).gather(1, torch.tensor(ids)[:, None]).sum().item())
    return totals[0] - totals[1]


def recipe(folder: Path, **given: Any) -> DpoRecipe:
    told = {
        "model_name_or_path": MODEL,
        "data": str(folder / "pairs.jsonl"),
        "output_dir": folder / "out",
        "per_device_train_batch_size": 2,
    }
    told |= {
        "bf16": False,
        "save_dtype": "float32",
        "max_steps": 4,
        "logging_steps": 1,
        "learning_rate": 1e-4,
        "warmup_steps": 0,
    }
    return DpoRecipe.model_validate(told | given)


@pytest.mark.slow
@pytest.mark.parametrize("lora", [{}, {"use_peft": True, "lora_r": 4, "lora_alpha": 8}])
def test_dpo_raises_the_probability_of_the_chosen_side_and_rejects_bad_pairs(
    folder: Path, tmp_path: Path, lora: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    (tmp_path / "images").symlink_to(folder / "images")
    chains = lines(folder / "chains.jsonl")
    good = [
        {"id": c["id"], "question": c["question"], "images": c["images"], "chosen": c["steps"][:1]}
        | {"rejected": [c["steps"][0].replace("Step 1", "Step 7")]}
        for c in chains[:2]
    ]
    bad = [
        {**good[0], "id": "equal", "rejected": good[0]["chosen"]},
        {**good[0], "id": "empty", "rejected": []},
        {**good[0], "id": "no image", "images": ["none.png"]},
        {**good[0], "id": "long", "question": "How many? " * 500},
        {**good[0], "id": "atomic", "format": "atomic", "chosen": ["Step 1: a.", "Step 2: b."]},
        {**good[0], "id": "odd", "format": "haiku"},
        good[0],
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in [*good, *bad]))
    train_dpo(recipe(tmp_path, learning_rate=1e-3 if lora else 1e-4, max_length=500, **lora))
    assert counts(caplog.text) == {"read": 9, "used": 2, "rejected": 7, "rows": 2}
    assert len(lines(tmp_path / "out" / "rejects.jsonl")) == 7
    losses = [record["loss"] for record in lines(tmp_path / "out" / "log.jsonl")]
    assert losses[0] == pytest.approx(0.6931, abs=1e-3)  # as likely as under itself
    assert losses[-1] < losses[0]
    before, after = (load_multimodal(name, device="cpu") for name in (MODEL, str(tmp_path / "out")))
    for pair in good:
        assert margin(after, pair, tmp_path) > margin(before, pair, tmp_path) + 0.01


@pytest.mark.slow
def test_a_second_round_starts_from_the_first_and_nothing_usable_is_an_error(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "images").symlink_to(folder / "images")
    chain = lines(folder / "chains.jsonl")[0]
    pair = {"id": "p", "question": chain["question"], "images": chain["images"], "history": chain["steps"][:1]}
    pair |= {"chosen": chain["steps"][1:], "rejected": ["Step 2: To sum up, the final answer is: -1."]}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(pair) + "\n")
    train_dpo(
        recipe(
            tmp_path, output_dir=tmp_path / "one", max_steps=1, loss_type=["sigmoid", "sft"], loss_weights=[1.0, 1.0]
        )
    )
    train_dpo(recipe(tmp_path, model_name_or_path=str(tmp_path / "one"), output_dir=tmp_path / "two", max_steps=1))
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert any(not torch.equal(one[name], two[name]) for name in one)
    (tmp_path / "pairs.jsonl").write_text(json.dumps({**pair, "rejected": pair["chosen"]}) + "\n")
    with pytest.raises(AtomThinkError, match=r"1 rejected.*pairs\.jsonl:1"):
        train_dpo(recipe(tmp_path, output_dir=tmp_path / "none"))
