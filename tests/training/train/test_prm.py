"""`atomthink train prm` and `atomthink prm mine`, from the command line, and what scorers make of the result."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
from collections.abc import Sequence
from itertools import accumulate, islice
from math import exp, log
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
import yaml
from PIL import ImageFile
from transformers import AutoTokenizer

from atomthink_plugin import api, training
from atomthink_plugin.api import Message, Question, Scorer, Step
from atomthink_plugin.cli import main
from atomthink_plugin.model_adapters.tiny import WEIGHTS
from atomthink_plugin.scorers.detect import detect_prm
from atomthink_plugin.scorers.prm_head import prm_head
from atomthink_plugin.scorers.prm_token import prm_token
from atomthink_plugin.training.records import Chain, RecordFile, read_records, write_records
from atomthink_plugin.training.tiny.figures import Figures
from atomthink_plugin.training.tiny.files import slips, write
from atomthink_plugin.training.tiny.model import make_grown
from atomthink_plugin.training.tiny.stages import KINDS
from atomthink_plugin.training.train.collate import IGNORED
from atomthink_plugin.training.train.dataset import RowCollator, read_training_data
from atomthink_plugin.training.train.prm import step_loss
from atomthink_plugin.training.train.prm_checkpoint import load
from atomthink_plugin.training.train.recipe import PrmRecipe, load_recipe
from tests.tiny_models import causal_prm, folder, head_prm
from tests.training.processes import in_two_processes
from tests.training.train.demo_data import counts

FEW = 6
CLI = "atomthink_plugin.cli"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    figures = Figures(tmp_path_factory.mktemp("data"), 4, seed=5)
    figures.draw()
    file = write(figures, "slips", FEW, seed=7)
    chains = read_records(file, Chain).records
    write_records(file, [one.model_copy(update={"correct": one.first_error() is None}) for one in chains])
    return file


def recipe(file: Path, **told: Any) -> Path:
    usual = {
        "model_name_or_path": str(WEIGHTS / "policy"),
        "step_tag": "<|step|>",
        "good_token": "+",
        "bad_token": "-",
        "bf16": False,
    }
    usual |= {
        "per_device_train_batch_size": FEW,
        "max_steps": 2,
        "learning_rate": 2e-3,
        "lr_scheduler_type": "constant",
        "warmup_steps": 0,
    }
    file.write_text(yaml.safe_dump(usual | {"save_dtype": "float32", "logging_steps": 1} | told))
    return file


def scores(scorer: Scorer, found: RecordFile[Chain], chain: Chain, images: bool = True) -> list[float]:
    question = found.question(chain) if images else Question(chain.id, (Message("user", (chain.question,)),))
    nodes = list(accumulate(chain.steps, lambda at, s: at.extend(Step(s)), initial=api.Path(question)))[1:]

    async def judge() -> list[float]:
        return [(await scorer.score(node)).value for node in nodes]

    return asyncio.run(judge())


def log_of(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def trained(folder: Path, **told: Any) -> Path:
    """The PRM of a recipe."""
    out: Path = told["output_dir"]
    file = recipe(folder / f"{out.name}.yaml", **told | {"output_dir": str(out)})
    if "muon" in told:
        KINDS["prm"](yaml.safe_load(file.read_text()))
    else:
        assert main(["train", "prm", str(file)]) == 0
    return out


Read = list[tuple[Chain, list[float]]]
"""Chains with the scores of their steps."""


def read_scores(scorer: Scorer, data: Path, images: bool = True) -> Read:
    found = read_records(data, Chain)
    return [(chain, scores(scorer, found, chain, images)) for chain in found.records]


def step_loss_of(read: Read) -> float:
    """The loss of steps that these scores would have."""
    pairs = [pair for chain, given in read for pair in zip(given, chain.labels or (), strict=True)]
    return fmean(-log(score if label else 1 - score) for score, label in pairs)


def chain_loss_of(read: Read) -> float:
    """The loss of whole chains that these scores would have."""
    odds = [fmean(log(score / (1 - score)) for score in given) for _, given in read]
    right = [chain.correct for chain, _ in read]
    assert set(right) == {True, False}
    return fmean(log(1 + exp(-mean if verdict else mean)) for mean, verdict in zip(odds, right, strict=True))


def classifier(copy: Path) -> Path:
    """A classifier without dropout, so that the loss of a step is that of the scores."""
    shutil.copytree(folder(head_prm), copy)
    file = copy / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"classifier_dropout": 0.0}))
    return copy


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["token", "token of text", "head"])
def test_the_scorer_reads_what_is_trained(data: Path, tmp_path: Path, kind: str) -> None:
    """Off by one position, it would read tokens that are not trained, and its scores would have another loss."""
    told: dict[str, Any] = {"data": str(data), "images": kind == "token"}
    if kind == "token of text":
        make_grown(tmp_path / "words", WEIGHTS / "policy", 1, None, images=False)
        told |= {"model_name_or_path": str(tmp_path / "words"), "chain_loss_weight": 0.5}
    elif kind == "head":
        told |= {
            "model_name_or_path": str(classifier(tmp_path / "classifier")),
            "kind": "head",
            "step_tag": "<extra_0>",
        }
    first = trained(tmp_path, **told, output_dir=tmp_path / "first", max_steps=4)
    assert detect_prm(str(first)).scorer == ("prm_head" if kind == "head" else "prm_token")
    # The loss of a step is that of the weights before it.
    again = trained(tmp_path, **told | {"model_name_or_path": str(first)}, output_dir=tmp_path / "again", max_steps=1)
    scorer = (prm_head if kind == "head" else prm_token)(str(first), device="cpu")
    read = read_scores(scorer, data, images=kind == "token")
    expected = step_loss_of(read) + told.get("chain_loss_weight", 0.0) * chain_loss_of(read)
    assert expected == pytest.approx(log_of(again)[0]["loss"], rel=1e-3)
    assert log_of(again)[0]["loss"] != pytest.approx(log_of(first)[0]["loss"], rel=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("helps", [{}, {"token_loss_weight": 0.3, "lm_loss_weight": 0.2, "balance_labels": True}])
def test_right_and_wrong_steps_get_different_scores(data: Path, tmp_path: Path, helps: dict[str, Any]) -> None:
    told = {"data": str(data), "max_steps": 25, "muon": 0.01, "freeze": "vision_tower", **helps}
    out = trained(tmp_path, **told, output_dir=tmp_path / "prm")
    scorer, found = prm_token(str(out), device="cpu"), read_records(data, Chain)
    read: dict[bool, list[float]] = {True: [], False: []}
    for chain in found.records:
        for score, label in zip(scores(scorer, found, chain), chain.labels or (), strict=True):
            read[label == 1.0].append(score)
    assert fmean(read[True]) > fmean(read[False]) + 0.3  # learned by heart, it is nearly 1
    losses = [line["loss"] for line in log_of(out)]
    assert losses[-1] < losses[0]


@pytest.mark.slow
def test_a_step_is_the_same_in_one_batch_in_many_and_in_two_processes(data: Path, tmp_path: Path) -> None:
    """Batches of one chain may have steps of one class alone: weights that are averaged in each of them are undone."""
    told = {"data": str(data), "max_steps": 1, "balance_labels": True, "token_loss_weight": 0.3, "lm_loss_weight": 0.2}
    told["chain_loss_weight"] = 0.5
    ways = {
        "one": {"per_device_train_batch_size": FEW},
        "many": {"per_device_train_batch_size": 1, "gradient_accumulation_steps": FEW},
        "two": {"per_device_train_batch_size": FEW // 2},
    }
    for name, sizes in ways.items():
        file = recipe(tmp_path / f"{name}.yaml", **told, **sizes, output_dir=str(tmp_path / name))
        command = ["train", "prm", str(file)]
        assert (in_two_processes(CLI, *command).returncode if name == "two" else main(command)) == 0
    first, *others = (log_of(tmp_path / name)[0] for name in ways)
    for other in others:
        assert (other["loss"], other["grad_norm"]) == pytest.approx((first["loss"], first["grad_norm"]), rel=1e-3)


def test_wrong_steps_weigh_as_much_as_right_ones_however_they_are_batched() -> None:
    pairs = torch.zeros(10, 2, requires_grad=True)
    right = torch.tensor([0.0] + [1.0] * 9)
    weights = (10 / 2, 10 / 18)
    whole = step_loss(pairs, right, weights)
    parts = sum(step_loss(pairs[i : i + 1], right[i : i + 1], weights) for i in range(10))
    assert torch.isclose(whole, torch.as_tensor(parts))
    (gradient,) = torch.autograd.grad(whole, pairs)
    assert torch.isclose(gradient[0].abs().sum(), gradient[1:].abs().sum())


@pytest.mark.slow
def test_a_run_that_is_resumed_ends_as_one_that_was_not(data: Path, tmp_path: Path) -> None:
    told = {"data": str(data), "per_device_train_batch_size": 2, "max_steps": 4, "save_steps": 2}
    told |= {"negative_upsampling": 1.5, "chain_loss_weight": 0.5}
    assert main(["train", "prm", str(recipe(tmp_path / "a.yaml", **told, output_dir=str(tmp_path / "whole")))]) == 0
    second = recipe(tmp_path / "b.yaml", **told, output_dir=str(tmp_path / "parts"))
    assert main(["train", "prm", str(second)]) == 0
    (tmp_path / "parts" / "config.json").unlink()
    for file in (tmp_path / "parts" / "checkpoints" / "checkpoint-4").iterdir():
        file.unlink()
    (tmp_path / "parts" / "checkpoints" / "checkpoint-4").rmdir()
    assert main(["train", "prm", str(second), "--resume_from_checkpoint", "true"]) == 0
    first, again = (_weights(tmp_path / name) for name in ("whole", "parts"))
    assert all(torch.equal(first[name], again[name]) for name in first)


def _weights(out: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(out / "model.safetensors")


@pytest.mark.slow
def test_misjudged_chains_are_mined_worst_first(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "prm"
    assert main(["train", "prm", str(recipe(tmp_path / "r.yaml", data=str(data), output_dir=str(out)))]) == 0
    hard = data.with_name("hard.jsonl")
    scoring = ["--prm", str(out), "--prm-args", "prm_batch_size=4"]
    assert main(["prm", "mine", str(data), "--out", str(hard), *scoring]) == 0
    scorer, found = prm_token(str(out), device="cpu"), read_records(data, Chain)
    worst = {chain.id: _worst(scores(scorer, found, chain), chain.labels or ()) for chain in found.records}
    mined = [worst[chain.id] for chain in read_records(hard, Chain).records]
    assert mined
    # Batches of other sizes round differently.
    assert mined == pytest.approx(sorted((fault for fault in worst.values() if fault > 0.5), reverse=True), abs=1e-4)


def _worst(read: Sequence[float], labels: Sequence[float | None]) -> float:
    return max(abs(value - (label or 0.0)) for value, label in zip(read, labels, strict=True))


def test_unusable_records_are_rejected_with_a_reason(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", False)  # lmms-eval sets it for the whole process
    caplog.set_level("INFO")
    good = [json.loads(line) for line in data.read_text().splitlines()]
    image = data.parent / good[0]["images"][0]
    (tmp_path / "broken.png").write_bytes(image.read_bytes()[:500])
    for record in good:
        record["images"] = [str(data.parent / name) for name in record["images"]]
    bad = [
        {**good[0], "id": "no-labels", "labels": None, "corrections": None},
        {**good[0], "id": "few-labels", "labels": [1.0]},
        {**good[0], "id": "no-label-at-all", "labels": [None] * len(good[0]["steps"])},
        {**good[0], "id": "label-of-2", "labels": [2.0] * len(good[0]["steps"])},
        {**good[0], "id": "no-steps", "steps": [], "labels": []},
        {**good[0], "id": "broken-image", "images": ["broken.png"]},
        {**good[0], "id": "no-image", "images": ["nowhere.png"]},
        {**good[0], "id": "has-the-tag", "steps": ["Step 1: +<|step|> "], "labels": [1.0], "corrections": None},
        {**good[0], "id": "too-long", "steps": ["Step 1: " + "well " * 500], "labels": [1.0], "corrections": None},
    ]
    mixed = tmp_path / "mixed.jsonl"
    mixed.write_text("".join(json.dumps(record) + "\n" for record in [*good, *bad]) + "no json\n")
    out = tmp_path / "prm"
    told = {"data": str(mixed), "output_dir": str(out), "max_length": 400, "max_steps": 1}
    assert main(["train", "prm", str(recipe(tmp_path / "r.yaml", **told))]) == 0
    rejects = [json.loads(line) for line in (out / "rejects.jsonl").read_text().splitlines()]
    reasons = {r["record"]["id"] if isinstance(r["record"], dict) else r["record"]: r["reason"] for r in rejects}
    # A tag in a text is tokenised as text, as in inference, so that chain stays.
    assert reasons.keys() == {record["id"] for record in bad} - {"has-the-tag"} | {"no json"}
    assert "broken.png" in reasons["broken-image"]
    assert "nowhere.png" in reasons["no-image"]
    assert "400" in reasons["too-long"]
    used = len(good) + 1
    assert counts(caplog.text) | {"read": used + len(bad), "used": used, "rejected": len(bad)} == counts(caplog.text)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"kind": "head", "lm_loss_weight": 0.5}, "`lm_loss_weight`"),
        ({"kind": "tail"}, "kind"),
        ({"format": "atomic", "chain_loss_weight": 1.0}, "`chain_loss_weight`"),
        ({"negative_upsampling": 0.5}, "`negative_upsampling: 0.5`"),
        ({"label_threshold": 1.0}, "`label_threshold: 1.0`"),
        ({"format": "sonnet"}, "sonnet"),
        ({"freez": "x"}, "`freez` is unknown"),
        ({"model_name_or_path": "nowhere"}, "nowhere"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_refused(
    data: Path, tmp_path: Path, told: dict[str, Any], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    file = recipe(tmp_path / "r.yaml", **({"data": str(data), "output_dir": str(tmp_path / "out")} | told))
    assert main(["train", "prm", str(file)]) == 2
    assert said in capfd.readouterr().err


def test_labels_of_one_kind_alone_teach_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    figures = Figures(tmp_path, 1, seed=5)
    figures.draw()
    made = [{**record, "id": str(n)} for n, record in enumerate(islice(slips(figures, random.Random(1)), 20))]
    right = [Chain.model_validate(record) for record in made if all(record["labels"])]
    write_records(tmp_path / "right.jsonl", right)
    file = recipe(tmp_path / "r.yaml", data=str(tmp_path / "right.jsonl"), output_dir=str(tmp_path / "out"))
    assert main(["train", "prm", str(file)]) == 2
    assert "`data`" in capfd.readouterr().err


@pytest.mark.parametrize("name", ["prm_math_psa", "prm_llava1_5_7b"])
def test_recipes_for_large_models_are_valid(name: str) -> None:
    told = load_recipe(PrmRecipe, Path(training.__file__).parent / "recipes" / f"{name}.yaml")
    assert told.step_tag.strip("\n") == (" " if name == "prm_math_psa" else "<|step|>")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["token", "head"])
def test_adapters_become_part_of_the_weights(data: Path, tmp_path: Path, kind: str) -> None:
    """Merged weights give the scores that the adapters gave in training."""
    told: dict[str, Any] = {"data": str(data), "learning_rate": 3e-3}
    told |= {"use_peft": True, "lora_r": 16, "lora_alpha": 32, "lora_target_modules": r".*language_model.*_proj"}
    if kind == "head":
        told |= {
            "model_name_or_path": str(classifier(tmp_path / "classifier")),
            "images": False,
            "kind": "head",
            "step_tag": "<extra_0>",
        }
        told["lora_target_modules"] = r".*_proj"
    # The same run goes on for one step more, whose loss is that of the weights which the other one merged.
    merged = trained(tmp_path, **told, output_dir=tmp_path / "merged", max_steps=6)
    losses = [line["loss"] for line in log_of(trained(tmp_path, **told, output_dir=tmp_path / "longer", max_steps=7))]
    assert losses[:-1] == pytest.approx([line["loss"] for line in log_of(merged)], rel=1e-4)
    scorer = (prm_head if kind == "head" else prm_token)(str(merged), device="cpu")
    assert step_loss_of(read_scores(scorer, data, kind == "token")) == pytest.approx(losses[-1], rel=1e-3)
    assert fmean(losses[-3:]) < losses[0]


def test_a_spare_row_has_no_loss(data: Path, tmp_path: Path) -> None:
    first, *others = [json.loads(line) for line in data.read_text().splitlines()]
    file = data.with_name("first_without_image.jsonl")
    file.write_text("".join(json.dumps(record) + "\n" for record in ({**first, "images": []}, *others)))
    told = load_recipe(PrmRecipe, recipe(tmp_path / "r.yaml", data=str(file), output_dir=str(tmp_path / "out")))
    prm = load(told)
    collator = RowCollator(read_training_data(told, prm.rows), prm.checkpoint.pad_id)
    item = collator.data.parts[0]
    few, more = collator([item]), collator.with_spare()([item])
    assert (len(few["input_ids"]), len(more["input_ids"]), len(more["pixel_values"])) == (1, 2, 1)
    for name in ("labels", "step_labels", "token_labels"):
        assert (few[name] != IGNORED).any()
        assert torch.equal(few[name][0], more[name][0, : few[name].shape[1]])
        assert (more[name][1] == IGNORED).all()


def test_new_classes_of_an_untied_model_are_no_work_for_adapters(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lora = {"use_peft": True, "lora_r": 4, "lora_alpha": 8, "lora_target_modules": r".*_proj"}
    told = {
        "model_name_or_path": str(folder(causal_prm)),
        "data": str(data),
        "output_dir": str(tmp_path / "out"),
        "images": False,
    }
    file = recipe(tmp_path / "r.yaml", **told, good_token="<|yes|>", bad_token="<|no|>", **lora)
    assert main(["train", "prm", str(file)]) == 2
    assert "`use_peft`" in capfd.readouterr().err


@pytest.mark.slow
def test_the_embedding_of_a_new_tag_is_trained_with_adapters(data: Path, tmp_path: Path) -> None:
    lora = {"use_peft": True, "lora_r": 4, "lora_alpha": 8, "lora_target_modules": r".*language_model.*_proj"}
    embeddings = []
    for name, rate in (("still", 1e-20), ("moved", 3e-3)):
        told = {
            "data": str(data),
            "output_dir": str(tmp_path / name),
            "step_tag": "<|new|>",
            "learning_rate": rate,
            **lora,
        }
        assert main(["train", "prm", str(recipe(tmp_path / f"{name}.yaml", **told))]) == 0
        embeddings.append(next(value for key, value in _weights(tmp_path / name).items() if "embed_tokens" in key))
    moved = (embeddings[0] != embeddings[1]).any(dim=1).nonzero().flatten().tolist()
    tag = AutoTokenizer.from_pretrained(tmp_path / "moved").convert_tokens_to_ids("<|new|>")
    assert moved == [tag]
