"""What tells one loaded checkpoint from another, and where checkpoints are looked for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.inference.checkpoint_files import load_config
from atomthink_plugin.inference.checkpoints import load_head_prm, load_multimodal, load_text_prm
from tests.scorers.shared import copy
from tests.tiny_models import causal_prm, folder, head_prm, llava

MORE_THAN_IS_READ = 2**26 + 1


def identity(model: Path, **arguments: str) -> str:
    return load_multimodal(str(model), device="cpu", **arguments).identity  # type: ignore[arg-type]


def test_small_files_count_by_their_content_whatever_they_are_called(tmp_path: Path) -> None:
    model = copy(folder(llava), tmp_path / "model")
    first, weights = identity(model), model / "model.safetensors"
    weights.write_bytes(weights.read_bytes())
    assert identity(model) == first
    before, content = weights.stat(), bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert identity(model) != first


@pytest.mark.parametrize("name", ["optimizer.pt", "model-00001-of-00002.safetensors", "notes.txt"])
def test_large_files_count_by_size_and_time_and_are_not_read(name: str, tmp_path: Path) -> None:
    model = copy(folder(llava), tmp_path / "model")
    large = model / name
    large.touch()
    os.truncate(large, MORE_THAN_IS_READ)
    first, before = identity(model), large.stat()
    with large.open("r+b") as file:
        file.write(b"other")
    os.utime(large, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert identity(model) == first
    os.utime(large, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert identity(model) != first
    os.utime(large, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.truncate(large, MORE_THAN_IS_READ + 1)
    os.utime(large, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert identity(model) != first


def test_the_precision_a_model_runs_in_is_part_of_its_identity() -> None:
    """`dtype=auto` is float32 here and something else on an accelerator."""
    model = folder(llava)
    assert identity(model) == identity(model, dtype="float32")
    assert identity(model).endswith(" in float32")
    assert identity(model, dtype="bfloat16") == identity(model).replace("float32", "bfloat16")


def test_checkpoints_are_found_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, build in (("policy", llava), ("causal", causal_prm), ("head", head_prm)):
        (tmp_path / name).symlink_to(folder(build))
    template = tmp_path / "own.jinja"
    template.write_text("{{ messages }}")
    loaded = load_multimodal("~/policy", device="cpu", chat_template="~/own.jinja")
    assert loaded.processor is not None
    assert loaded.processor.chat_template == "{{ messages }}"
    assert loaded.identity == identity(tmp_path / "policy")
    assert load_text_prm("~/causal", device="cpu").identity == load_text_prm(f"{tmp_path}/causal").identity
    assert load_head_prm("~/head", device="cpu").identity == load_head_prm(f"{tmp_path}/head").identity
    assert load_config("~/policy") == load_config(f"{tmp_path}/policy")


@pytest.mark.parametrize("argument", ["pretrained", "prm"])
def test_a_folder_that_is_not_at_home_is_named(argument: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(AtomThinkError, match=f"{argument}='{tmp_path}/models/x'"):
        load_multimodal("~/models/x", argument=argument)
    with pytest.raises(AtomThinkError, match=r"chat_template='~nobody-here/t\.jinja'"):
        load_multimodal(str(folder(llava)), device="cpu", chat_template="~nobody-here/t.jinja")
