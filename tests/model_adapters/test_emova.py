"""EMOVA's interface, on a stand-in of it: its code runs only when told to, and its steps are its own."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path as FilePath
from typing import Any

import pytest
import torch
from transformers import AutoModel, AutoProcessor

from atomthink_plugin.api import (
    AtomThinkError,
    Format,
    Message,
    Path,
    Prompt,
    Question,
    Sampling,
)
from atomthink_plugin.formats.atomic import Atomic
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.formats.direct import Direct
from atomthink_plugin.inference.checkpoints import load_remote_multimodal
from atomthink_plugin.inference.decoding import PrefillDecoder
from atomthink_plugin.model_adapters.emova_policy import ConversationEncoder, emova_policy
from atomthink_plugin.model_adapters.lmms_models import AtomThinkEmova
from atomthink_plugin.model_adapters.transformers_policy import TransformersPolicy
from tests.emova_standin import emova, emova_merging
from tests.policy_prompts import ask
from tests.tiny_models import chain, folder, head_prm, llava, picture, question

Build = Callable[[FilePath], FilePath]
BOTH = pytest.mark.parametrize("build", [emova, emova_merging])
SYSTEM = "You are a helpful assistant."

QUESTIONS = [
    question("How many?", picture(0), name="a"),
    question("What is two plus two plus two plus one?", picture(1, (90, 40)), name="b"),
    question("Text alone: what is one plus one?", name="c"),
    Question("d", (Message("user", (picture(2, (30, 100)), "Which is larger?", picture(3), "This one?")),)),
]


@cache
def policy(build: Build, **arguments: Any) -> TransformersPolicy:
    return emova_policy(str(folder(build)), trust_remote_code=True, device="cpu", **arguments)


@cache
def published(build: Build) -> tuple[Any, Any]:
    """Model and processor as the model card loads them."""
    model = AutoModel.from_pretrained(folder(build), trust_remote_code=True).eval()
    return model, AutoProcessor.from_pretrained(folder(build), trust_remote_code=True)


def card_inputs(build: Build, messages: tuple[Message, ...]) -> Any:
    """Inputs as the model card makes them."""
    turns = [{"role": "system", "content": [{"type": "text", "text": SYSTEM}]}]
    for turn in messages:
        content = [{"type": "text", "text": p} if isinstance(p, str) else {"type": "image"} for p in turn.parts]
        turns.append({"role": turn.role, "content": content})
    images = [part for turn in messages for part in turn.parts if not isinstance(part, str)]
    given = {"images": images[0] if len(images) == 1 else images} if images else {}
    return published(build)[1](text=turns, return_tensors="pt", **given)


def from_scratch(build: Build, prompt: Prompt, steps: int) -> list[int]:
    """Greedy ids, each from a forward pass over everything before it."""
    model, processor = published(build)
    inputs = card_inputs(build, prompt.messages)
    ids = inputs["input_ids"]
    if prompt.prefix:
        ids = torch.cat([ids, processor.tokenizer(prompt.prefix, return_tensors="pt")["input_ids"]], 1)
    written: list[int] = []
    while len(written) < steps and (not written or written[-1] != processor.tokenizer.eos_token_id):
        everything = {**inputs, "input_ids": ids, "attention_mask": torch.ones_like(ids)}
        with torch.inference_mode():
            token = model(**everything, use_cache=False).logits[:, -1].argmax(-1, keepdim=True)
        ids = torch.cat([ids, token], 1)
        written.append(int(token))
    return written


@pytest.mark.parametrize("trust", [{}, {"trust_remote_code": False}])
def test_its_code_does_not_run_without_trust_remote_code(trust: dict[str, bool], tmp_path: FilePath) -> None:
    copy = FilePath(shutil.copytree(folder(emova), tmp_path / "model"))
    for file in copy.glob("*.py"):
        file.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n" + file.read_text())
    with pytest.raises(AtomThinkError, match="trust_remote_code=True"):
        AtomThinkEmova(pretrained=str(copy), thinking="quick", journal="off", **trust)
    assert not (tmp_path / "ran").exists()
    emova_policy(str(copy), trust_remote_code=True, device="cpu")
    assert (tmp_path / "ran").exists()


@pytest.mark.slow
@BOTH
@pytest.mark.parametrize("form", [Direct(), Atomic(), Continue()])
def test_greedy_steps_are_those_of_forward_passes_from_scratch(build: Build, form: Format) -> None:
    paths = [Path(asked) for asked in QUESTIONS]
    paths += [chain(QUESTIONS[0], "Step 1: Compute 1 + 1 = 2."), chain(QUESTIONS[3], "Step 1: Compute 2 + 2 = 4.")]
    for path, proposal in zip(paths, ask(policy(build), form, paths, Sampling(max_tokens=10)), strict=True):
        (step,) = proposal.steps
        expected = from_scratch(build, form.render(path), 10)
        assert list(step.token_ids) == expected[: len(step.token_ids)]
        assert len(step.token_ids) == len(expected) or step.finish == "stop"


@BOTH
def test_images_are_where_the_turns_have_them(build: Build) -> None:
    """Swapping two images changes the inputs, and each image comes after its own text."""
    model, processor = published(build)
    encoder = ConversationEncoder(load_remote_multimodal(str(folder(build)), trust_remote_code=True, device="cpu"))
    messages = QUESTIONS[3].messages
    encoding = encoder.encode(Prompt(messages))
    expected = card_inputs(build, messages)
    assert encoding.tokens["input_ids"].tolist() == expected["input_ids"].tolist()
    for name in ("pixel_values", "image_sizes"):
        assert torch.equal(encoding.media[name], expected[name])
    text = processor.tokenizer.decode(encoding.tokens["input_ids"][0])
    assert encoding.images == 2
    assert text.index(SYSTEM) < text.index("<image>") < text.index("Which is larger?") < text.rindex("<image>")
    assert text.rindex("<image>") < text.index("This one?")
    settled = encoding.tokens["input_ids"][0, : encoding.settled]
    assert int(settled[-1]) == model.config.image_token_index
    assert model.config.image_token_index not in encoding.tokens["input_ids"][0, encoding.settled :]


def test_a_task_may_bring_its_own_system_turn_and_name_the_placeholder() -> None:
    encoder = ConversationEncoder(load_remote_multimodal(str(folder(emova)), trust_remote_code=True, device="cpu"))
    messages = (Message("system", ("Be brief.",)), Message("user", (picture(0), "What is <image>?")))
    ids = encoder.encode(Prompt(messages)).tokens["input_ids"][0]
    text = published(emova)[1].tokenizer.decode(ids)
    assert SYSTEM not in text
    assert "Be brief." in text
    assert text.count("<image>") == 16
    assert "What is < image>?" in text


def test_caches_are_forked_and_rows_share_a_batch_where_the_code_allows_it(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        able = policy(emova, batch_size=5)
    assert able.decoding == "slots"
    assert able.max_rows == 5
    assert "forked" not in caplog.text
    proposals = ask(able, Continue(), [Path(QUESTIONS[0])], Sampling(temperature=1.0, max_tokens=5), 4)
    proposals += ask(able, Continue(), [chain(QUESTIONS[0], "Step 1: Compute 1 + 1 = 2.")], Sampling(max_tokens=5))
    assert [proposal.usage.images for proposal in proposals] == [1, 0]
    assert proposals[1].usage.cached > proposals[1].usage.prefilled


def test_code_that_allows_neither_is_found_out_before_the_first_question(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        unable = policy(emova_merging, batch_size=5)
    assert isinstance(unable._decoder, PrefillDecoder)
    assert "cannot be asked in batches" in caplog.text
    rows = set()
    model: Any = unable._checkpoint.model
    handle = model.register_forward_pre_hook(lambda _, __, named: rows.add(len(named["input_ids"])), with_kwargs=True)
    ask(unable, Continue(), [Path(QUESTIONS[0])], Sampling(temperature=1.0, max_tokens=3), 4)
    handle.remove()
    assert rows == {1}
    assert "cannot be forked (it turns an image's one token into several)" in caplog.text


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (
            "modeling_emova.py",
            "from torch import nn",
            "from transformers import GoneSince",
            "does not fit the installed",
        ),
        ("modeling_emova.py", "from torch import nn", "import no_such_package", "needs a package: .*no_such_package"),
        (
            "modeling_emova.py",
            "embeds = self",
            "past_key_values.seen_tokens; embeds = self",
            "fails with transformers 5",
        ),
        ("processing_emova.py", "prompt = self", "self.gone(); prompt = self", "AttributeError.*gone.*revision="),
    ],
)
def test_code_that_does_not_run_here_differs_from_a_wrong_name(
    file: str, old: str, new: str, message: str, tmp_path: FilePath
) -> None:
    copy = FilePath(shutil.copytree(folder(emova), tmp_path / "model"))
    code = (copy / file).read_text()
    assert old in code
    (copy / file).write_text(code.replace(old, new, 1))
    with pytest.raises(AtomThinkError, match=message):
        emova_policy(str(copy), trust_remote_code=True, device="cpu")


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("processor_config.json", "has no processor, so images cannot be prepared: copy processor_config.json"),
        ("modeling_emova.py", r"modeling_emova\.py"),
        ("model.safetensors", r"model\.safetensors"),
    ],
)
def test_a_missing_file_is_named(missing: str, message: str, tmp_path: FilePath) -> None:
    copy = FilePath(shutil.copytree(folder(emova), tmp_path / "model"))
    (copy / missing).unlink()
    with pytest.raises(AtomThinkError, match=message):
        emova_policy(str(copy), trust_remote_code=True, device="cpu")


def test_the_error_of_another_checkpoint_names_the_right_model(tmp_path: FilePath) -> None:
    with pytest.raises(AtomThinkError, match=r"'llava'.*atomthink_hf"):
        emova_policy(str(folder(llava)), device="cpu")
    with pytest.raises(AtomThinkError, match=r"name a folder that has its files"):
        AtomThinkEmova(thinking="quick", journal="off", trust_remote_code=True)
    config = json.loads((folder(emova) / "config.json").read_text())
    assert config["auto_map"]["AutoModel"] == "modeling_emova.EMOVAForConditionalGeneration"


def test_it_takes_the_arguments_of_the_other_families() -> None:
    made = AtomThinkEmova(
        pretrained=str(folder(emova)),
        prm=str(folder(head_prm)),
        scorer="prm_head",
        prm_device="cpu",
        dtype="bfloat16",
        attn_implementation="eager",
        trust_remote_code=True,
        thinking="slow",
        device="cpu",
        journal="off",
    )
    assert made._plan.identity["format"]["name"] == "continue"
    assert made._runner.policy.identity.endswith(" in bfloat16")
