"""`atomthink train policy`: what it writes, what it resumes, what it sets aside."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.inference.checkpoints import load_multimodal
from atomthink_plugin.model_adapters.emova_policy import emova_policy
from atomthink_plugin.model_adapters.transformers_policy import transformers_policy
from atomthink_plugin.training.train import training_log
from atomthink_plugin.training.train.policy import train_policy
from tests import tiny_models
from tests.emova_standin import emova
from tests.training.processes import in_two_processes
from tests.training.train.demo_data import MODEL, MUON, counts, demo_chains, recipe


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    demo_chains(folder, 12)
    return folder


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.mark.slow
def test_it_trains_what_is_not_frozen_and_writes_a_complete_checkpoint(data: Path, tmp_path: Path) -> None:
    told = {"one_row_per_chain": True, "freeze": "vision_tower", "bf16": True, "save_dtype": "bfloat16"}
    train_policy(recipe(data, output_dir=tmp_path / "out", learning_rate=3e-3, max_steps=3, **told), MUON)
    before, after = weights(Path(MODEL)), weights(tmp_path / "out")
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert any("language_model" in name for name in moved)
    assert not any("vision_tower" in name for name in moved)
    assert all(value.dtype == torch.bfloat16 for value in after.values())
    records = lines(tmp_path / "out" / "log.jsonl")
    assert [record["step"] for record in records] == [1, 2, 3]
    assert all({"loss", "learning_rate", "tokens_per_second", "seconds"} <= record.keys() for record in records)
    assert (tmp_path / "out" / "rejects.jsonl").read_text() == ""
    policy = transformers_policy(str(tmp_path / "out"), device="cpu")
    assert policy.identity.endswith("in float32")
    assert load_multimodal(str(tmp_path / "out"), device="cpu").processor is not None
    with pytest.raises(AtomThinkError, match="`output_dir:"):
        train_policy(recipe(data, output_dir=tmp_path / "out"))


@pytest.mark.slow
def test_a_training_ends_with_its_losses_its_folder_and_the_next_command(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_policy(recipe(data, output_dir=tmp_path / "out", max_steps=3, logging_steps=10, learning_rate=1e-2))
    first, last = lines(tmp_path / "out" / "log.jsonl")
    assert (first["step"], last["step"]) == (1, 3)
    steps, folder, command = capsys.readouterr().out.splitlines()
    assert re.findall(r"[\d.]+", steps)[::2] == ["3", f"{first['loss']:.4f}"]
    assert re.findall(r"[\d.]+", steps)[-1] == f"{last['loss']:.4f}"
    assert folder == f"output_dir: {tmp_path / 'out'}"
    assert f"pretrained={tmp_path / 'out'}" in command


class KilledError(Exception):
    pass


class _Kill(TrainerCallback):
    """Ends the process's training after a step, as a signal would."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 3:
            raise KilledError


@pytest.mark.slow
def test_a_killed_run_that_is_resumed_ends_with_the_same_weights(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"one_row_per_chain": True, "max_steps": 4, "save_steps": 2, "warmup_steps": 1}
    told |= {"lr_scheduler_type": "warmup_stable_decay", "lr_scheduler_kwargs": {"num_decay_steps": 2}}
    train_policy(recipe(data, output_dir=tmp_path / "whole", **told), MUON)

    class Dying(training_log.JsonLog):
        on_step_end = _Kill.on_step_end

    with monkeypatch.context() as patch:
        patch.setattr("atomthink_plugin.training.train.trainer.JsonLog", Dying)
        with pytest.raises(KilledError):
            train_policy(recipe(data, output_dir=tmp_path / "killed", **told), MUON)
    assert not (tmp_path / "killed" / "model.safetensors").exists()
    train_policy(recipe(data, output_dir=tmp_path / "killed", resume_from_checkpoint=True, **told), MUON)
    whole, resumed = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    expected, found = (lines(tmp_path / name / "log.jsonl") for name in ("whole", "killed"))
    for name in ("step", "loss", "learning_rate", "tokens"):
        assert [record[name] for record in expected] == pytest.approx([record[name] for record in found])


@pytest.mark.slow
def test_a_log_with_a_torn_last_line_is_continued(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    kept = ['{"step": 1, "tokens": 10}', '{"step": 2, "tokens": 20}']
    file.write_text("\n".join([*kept, '{"step": 3, "tokens": 30}', '{"step": 4, "lo']))
    told = training_log.JsonLog(file)
    state = TrainerState(global_step=2, max_steps=4)
    told.on_train_begin(TrainingArguments(str(tmp_path)), state, TrainerControl())
    assert file.read_text().splitlines() == kept
    state.global_step = 3
    told.on_log(TrainingArguments(str(tmp_path)), state, TrainerControl(), {"loss": 1.0, "num_tokens": 7.0})
    assert lines(file)[2]["tokens"] == 27


@pytest.mark.slow
def test_a_training_from_the_beginning_replaces_a_log_whatever_is_in_it(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    file.write_text('{"loss": 1.0}\n{"st')
    state = TrainerState(global_step=0, max_steps=4)
    training_log.JsonLog(file).on_train_begin(TrainingArguments(str(tmp_path)), state, TrainerControl())
    assert file.read_text() == ""


@pytest.mark.slow
@pytest.mark.parametrize("merge", [True, False])
def test_adapters_are_merged_into_the_weights_or_kept_separate(data: Path, tmp_path: Path, merge: bool) -> None:
    lora = {"use_peft": True, "lora_r": 4, "lora_alpha": 8, "merge_lora": merge}
    told = {**lora, "learning_rate": 1e-2, "per_device_train_batch_size": 2, "warmup_steps": 0}
    train_policy(recipe(data, output_dir=tmp_path / "out", one_row_per_chain=True, **told))
    if not merge:
        assert (tmp_path / "out" / "adapter_model.safetensors").exists()
        assert not (tmp_path / "out" / "config.json").exists()
        return
    before, after = weights(Path(MODEL)), weights(tmp_path / "out")
    # A head that is tied to the embeddings is not written twice.
    moved = {name for name in after if not torch.allclose(before[name].float(), after[name].float())}
    assert moved
    assert all("language_model" in name and name.endswith("_proj.weight") for name in moved)
    parts = load_file(tmp_path / "out" / "adapters" / "adapter_model.safetensors")
    name = next(name for name in parts if name.endswith("q_proj.lora_A.weight"))
    change = 2 * parts[name.replace("lora_A", "lora_B")] @ parts[name]  # alpha / r
    of = next(key for key in moved if key.endswith(name.split("layers.")[1].replace(".lora_A", "")))
    assert torch.allclose(after[of].float() - before[of].float(), change, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("build", [tiny_models.llava_next, tiny_models.qwen, tiny_models.mllama])
def test_other_architectures_and_rows_without_images_train_step_by_step(build: Any, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    tiny_models.picture(0, (112, 56)).save(tmp_path / "images" / "a.png")
    steps = ["Step 1: Read red = 4.", "Step 2: To sum up, the final answer is: 4."]
    chains = [
        {"id": 1, "question": "How many?", "images": ["images/a.png"], "steps": steps},
        {"id": 2, "question": "How many?", "steps": steps, "format": "continue"},
        {"id": 3, "question": "How many?", "steps": ["4"], "format": "direct"},
    ]
    (tmp_path / "chains.jsonl").write_text("".join(json.dumps(chain) + "\n" for chain in chains))
    model = str(tiny_models.folder(build))
    train_policy(
        recipe(
            tmp_path,
            model_name_or_path=model,
            format="atomic",
            per_device_train_batch_size=5,
            max_steps=1,
            warmup_steps=0,
        )
    )
    before, after = weights(Path(model)), weights(tmp_path / "out")
    assert any(not torch.equal(before[name], after[name]) for name in before)
    transformers_policy(str(tmp_path / "out"), device="cpu")


@pytest.mark.slow
def test_a_model_of_its_own_code_trains_and_keeps_it(data: Path, tmp_path: Path) -> None:
    model = str(tiny_models.folder(emova))
    told = {
        "model_name_or_path": model,
        "format": "continue",
        "one_row_per_chain": True,
        "max_length": None,
        "warmup_steps": 0,
    }
    with pytest.raises(AtomThinkError, match="trust_remote_code"):
        train_policy(recipe(data, output_dir=tmp_path / "out", **told))
    train_policy(
        recipe(
            data,
            output_dir=tmp_path / "out",
            trust_remote_code=True,
            module_learning_rates={"vision_tower": 0.0},
            **told,
        )
    )
    before, after = weights(Path(model)), weights(tmp_path / "out")
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert any("language_model" in name for name in moved)
    assert not any("vision_tower" in name for name in moved)  # a learning rate of its own: none
    emova_policy(str(tmp_path / "out"), device="cpu", trust_remote_code=True)


@pytest.mark.slow
def test_unusable_records_are_rejected_and_counted(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    good = lines(data / "chains.jsonl")[0]
    bad: dict[str, dict[str, Any]] = {
        "no steps": {"steps": []},
        "broken image": {"images": ["broken.png"]},
        "odd format": {"format": "haiku"},
        "blank line": {"steps": ["Step 1: a.\n\nb.", "Step 2: The answer is: 3."]},
        "two replies": {"format": "direct"},
        "wrong step": {"labels": [1.0] * (len(good["steps"]) - 1) + [0.0]},
        "long": {"question": "How many? " * 400},
    }
    (tmp_path / "broken.png").write_bytes(b"\x89PNG no picture")
    (tmp_path / "images").symlink_to(data / "images")
    records = [good, *({**good, "id": name} | change for name, change in bad.items())]
    (tmp_path / "chains.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records) + "{torn\n")
    train_policy(recipe(tmp_path, one_row_per_chain=True, max_steps=1, max_length=400))
    rejects = lines(tmp_path / "out" / "rejects.jsonl")
    assert len(rejects) == len(bad) + 1
    assert counts(caplog.text) == {"read": 9, "used": 1, "rejected": 8, "rows": 1}
    reasons = {str(r["record"]["id"]) if isinstance(r["record"], dict) else "torn": r["reason"] for r in rejects}
    assert "haiku" in reasons["odd format"]
    assert "'\\n\\n'" in reasons["blank line"]
    assert "400" in reasons["long"]
    assert f"step {len(good['steps'])}" in reasons["wrong step"]
    assert reasons.keys() == {*bad, "torn"}
    assert "broken.png" in reasons["broken image"]
    (tmp_path / "chains.jsonl").write_text(json.dumps({**good, "format": "haiku"}) + "\n")
    with pytest.raises(AtomThinkError, match=r"`data`.*haiku"):
        train_policy(recipe(tmp_path, output_dir=tmp_path / "none"))


@pytest.mark.slow
def test_weights_of_files_are_how_often_they_are_used(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    files = [{"file": str(data / "chains.jsonl"), "weight": 1.5}, {"file": str(data / "chains.jsonl"), "weight": 0.25}]
    train_policy(recipe(data, output_dir=tmp_path / "out", data=files, one_row_per_chain=True, max_steps=1))
    assert counts(caplog.text) == {"read": 24, "used": 24, "rejected": 0, "rows": 21}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"one_row_per_chain": True, "format": "atomic"}, "`one_row_per_chain: true`.*atomic"),
        ({"format": "haiku"}, "`format: haiku` is unknown"),
        ({"freeze": "no_such_part"}, "`freeze: no_such_part`"),
        ({"module_learning_rates": {"no_such_part": 1e-7}}, "`module_learning_rates: no_such_part`"),
        ({"use_peft": True, "lora_target_modules": "no_such_part"}, "`lora_target_modules: no_such_part`"),
        ({"freeze": "."}, r"`freeze: \['\.'\]`"),
        ({"model_name_or_path": "/nowhere"}, "`?model_name_or_path.*/nowhere"),
    ],
)
def test_the_error_of_an_invalid_recipe_names_the_key(
    data: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(AtomThinkError, match=message):
        train_policy(recipe(data, output_dir=tmp_path / "out", **change))


@pytest.mark.slow
def test_two_processes_train_one_model(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    told = recipe(data, output_dir=tmp_path / "out", one_row_per_chain=True, per_device_train_batch_size=2).model_dump(
        mode="json", exclude_unset=True
    )
    file.write_text(json.dumps(told))
    done = in_two_processes("atomthink_plugin.cli", "train", "policy", str(file))
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("chains: 12 read") == 1
    one = recipe(data, output_dir=tmp_path / "one", one_row_per_chain=True, per_device_train_batch_size=4)
    train_policy(one)
    together, alone = lines(tmp_path / "out" / "log.jsonl"), lines(tmp_path / "one" / "log.jsonl")
    assert [record["step"] for record in together] == [1, 2]
    # The same four rows a step, in two halves: the same losses and weights, but where rounding turns a step of AdamW.
    assert [r["loss"] for r in together] == pytest.approx([r["loss"] for r in alone], rel=1e-3)
    first, second = weights(tmp_path / "out"), weights(tmp_path / "one")
    assert max((first[name] - second[name]).abs().mean().item() for name in first) < 2e-4
