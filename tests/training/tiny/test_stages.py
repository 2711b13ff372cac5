"""The embedded model's recipes can be followed, in order, once each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.cli import main
from atomthink_plugin.model_adapters.tiny import WEIGHTS
from atomthink_plugin.training.records import Chain, read_records
from atomthink_plugin.training.tiny.figures import Figures
from atomthink_plugin.training.tiny.model import Size, load, make_base, make_grown
from atomthink_plugin.training.tiny.stages import DONE, KINDS, RECIPES, run_stages
from atomthink_plugin.training.train.recipe import PolicyRecipe, PrmRecipe, Recipe, checked_recipe

STAGES = sorted(RECIPES.glob("*.yaml"), key=lambda file: int(file.stem.partition("-")[0]))


def test_every_stage_is_a_recipe_of_its_kind_and_reads_what_an_earlier_one_wrote() -> None:
    made: set[str] = set()
    for file in STAGES:
        kind = file.stem.split("-")[1]
        told = yaml.safe_load(file.read_text())
        if kind in ("policy", "prm"):
            assert told["muon"] > 0
            fields = {name: value for name, value in told.items() if name != "muon"}
            checked: Recipe = checked_recipe({"policy": PolicyRecipe, "prm": PrmRecipe}[kind], fields, file.name)
            needed = {checked.model_name_or_path, *(str(data.file) for data in checked.data)}
        else:
            assert kind in {*KINDS, "run"}
            needed = {told[name] for name in ("model", "eyes", "questions", "policy", "chains", "prm") if name in told}
        assert needed <= made, file.stem
        made |= _outputs(kind, told)
    assert {"policy", "prm", "control", "prm-text", "policy-2", "forms"} <= made


def _outputs(kind: str, told: dict[str, Any]) -> set[str]:
    if kind == "data":
        return {f"{told['figures']['folder']}/{file['name']}-{file['seed']}.jsonl" for file in told["files"]}
    if kind == "held":
        return {f"{told['folder']}/asking.jsonl"}
    if kind == "run":
        words = told["arguments"]
        out = words[words.index("--out") + 1] if "--out" in words else ""
        return {f"{out}/chains.jsonl" if words[0] == "annotate" else out}
    return {told.get("output_dir") or told["out"]}


@pytest.mark.slow
def test_stages_run_once_in_order_scaled(tmp_path: Path) -> None:
    recipes, out = tmp_path / "recipes", tmp_path / "out"
    recipes.mkdir()
    figures = {"folder": "data", "size": 40, "seed": 1}
    files = [{"name": "slips", "records": 30, "seed": 1}]
    made = {"figures": figures, "files": files}
    for name, told in {"01-data-a": made, "02-run-b": {"arguments": ["--version"]}, "90-data-c": made}.items():
        (recipes / f"{name}.yaml").write_text(yaml.safe_dump(told))
    run_stages(out, scale=0.1, recipes=recipes)
    assert len(read_records(out / "data" / "slips-1.jsonl", Chain).records) == 3
    assert len(list((out / "data" / "figures").iterdir())) == 4
    done = [json.loads(line)["stage"] for line in (out / DONE).read_text().splitlines()]
    assert done == ["01-data-a", "02-run-b"]
    (out / "data" / "slips-1.jsonl").unlink()
    run_stages(out, scale=0.1, recipes=recipes)
    assert not (out / "data" / "slips-1.jsonl").exists()
    with pytest.raises(AtomThinkError, match="another `--scale`"):
        run_stages(out, scale=1.0, recipes=recipes)


def test_a_stage_that_is_not_there_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "tiny", "--out", str(tmp_path), "--only", "77"]) == 2
    said = capfd.readouterr().err
    assert "--only 77" in said
    assert "01-base" in said


@pytest.mark.slow
def test_a_base_model_can_see_and_is_complete(tmp_path: Path) -> None:
    figures = Figures(tmp_path, 4, seed=1)
    figures.draw()
    size = Size(vision_width=32, vision_layers=1, text_width=32, text_layers=1, text_mlp=32)
    make_base(tmp_path / "base", figures, 2, 0, size)
    assert load(tmp_path / "base").config.text_config.hidden_size == 32


def test_a_grown_model_initially_computes_the_same(tmp_path: Path) -> None:
    make_grown(tmp_path / "grown", WEIGHTS / "policy", 2, None, images=True)
    before, after = load(WEIGHTS / "policy"), load(tmp_path / "grown")
    ids = torch.tensor([[300, 301, 302]])
    with torch.inference_mode():
        assert torch.allclose(before(input_ids=ids).logits, after(input_ids=ids).logits, atol=1e-4)
    assert after.config.text_config.num_hidden_layers == before.config.text_config.num_hidden_layers + 2


@pytest.mark.slow
def test_own_chains_are_labelled_by_the_truth(tmp_path: Path) -> None:
    from atomthink_plugin.training.tiny.files import write

    figures = Figures(tmp_path / "data", 4, seed=1)
    figures.draw()
    asked = write(figures, "asking", 12, seed=1)
    out = tmp_path / "data" / "own.jsonl"
    KINDS["chains"]({"questions": str(asked), "policy": str(WEIGHTS / "policy"), "temperature": 1.0, "out": str(out)})
    found = read_records(out, Chain)
    answers = {json.loads(line)["id"]: json.loads(line)["answer"] for line in asked.read_text().splitlines()}
    assert 6 < len(found.records) <= 12
    for chain in found.records:
        right = chain.steps[-1].endswith(f": {answers[chain.id.rpartition('/')[0]]}.")
        assert right or chain.first_error() is not None


@pytest.mark.slow
def test_a_stage_runs_any_command(tmp_path: Path) -> None:
    recipes, out = tmp_path / "recipes", tmp_path / "out"
    recipes.mkdir()
    (recipes / "01-run-version.yaml").write_text(yaml.safe_dump({"arguments": ["--version"]}))
    run_stages(out, recipes=recipes)
    (recipes / "02-run-unknown.yaml").write_text(yaml.safe_dump({"arguments": ["steps", "no-such-run"]}))
    with pytest.raises(AtomThinkError, match="02-run-unknown"):
        run_stages(out, recipes=recipes)
    assert [json.loads(line)["stage"] for line in (out / DONE).read_text().splitlines()] == ["01-run-version"]
