"""A head PRM gives what its classifier gives at the last separator."""

from __future__ import annotations

import json
from pathlib import Path as FilePath
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForTokenClassification,
    AutoProcessor,
    AutoTokenizer,
    Qwen3_5Config,
    Qwen3_5ForTokenClassification,
    Qwen3VLProcessor,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor

from atomthink_plugin.api import AtomThinkError, Format, Path, QuestionError
from atomthink_plugin.formats.atomic import Atomic
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.scorers.detect import detect_prm
from atomthink_plugin.scorers.prm_head import SYSTEM, prm_head
from tests.scorers.shared import ASKED, PATHS, STEPS, TEXT, copy, logits_of, scores
from tests.tiny_models import QWEN_TEMPLATE, causal_prm, chain, folder, head_prm, llava, picture, question, tokenizer


def prm(**arguments: Any) -> Any:
    return prm_head(str(folder(head_prm)), device="cpu", **arguments)


def test_the_published_conversation_is_read_at_the_last_separator() -> None:
    model = AutoModelForTokenClassification.from_pretrained(folder(head_prm)).eval()
    words = AutoTokenizer.from_pretrained(folder(head_prm))
    separator = words.convert_tokens_to_ids("<extra_0>")
    for path, score in zip(PATHS, scores(prm(), PATHS), strict=True):
        reply = "<extra_0>".join(step.text for step in path.steps) + "<extra_0>"
        turns = [("system", SYSTEM), ("user", path.question.text), ("assistant", reply)]
        text = words.apply_chat_template([{"role": r, "content": c} for r, c in turns], tokenize=False)
        ids = words.encode(text)
        places = [at for at, token in enumerate(ids) if token == separator]
        assert len(places) == path.depth
        expected = torch.softmax(logits_of(model, ids)[places[-1]], 0)[1]
        assert score == pytest.approx(expected.item(), abs=1e-5)


def test_all_scores_of_a_chain_are_those_of_its_beginnings() -> None:
    """One forward over a whole chain gives at each separator what the beginning alone gave."""
    model = AutoModelForTokenClassification.from_pretrained(folder(head_prm)).eval()
    whole = prm().encode(chain(ASKED, *STEPS)).encoding.tokens["input_ids"][0]
    at = (whole == 3).nonzero()[:, 0]
    expected = torch.softmax(logits_of(model, whole.tolist())[at], -1)[:, 1].tolist()
    assert scores(prm(), PATHS[:3]) == pytest.approx(expected, abs=1e-5)


def test_scores_do_not_depend_on_the_batch() -> None:
    assert scores(prm(batch_size=16), PATHS) == pytest.approx(scores(prm(batch_size=1), PATHS[::-1])[::-1], abs=1e-5)


def test_separators_in_a_step_are_ordinary_text() -> None:
    ids = prm().encode(chain(ASKED, "Step 1: a <extra_0> b.")).encoding.tokens["input_ids"][0]
    assert (ids == 3).sum() == 1


def test_a_separator_that_is_not_one_token_is_named() -> None:
    with pytest.raises(AtomThinkError, match="prm_separator='<extra_9>'"):
        prm(separator="<extra_9>")


@pytest.mark.parametrize("labels", [1, 3])
def test_a_head_without_two_classes_is_refused(labels: int, tmp_path: FilePath) -> None:
    other = copy(folder(head_prm), tmp_path / "prm")
    model = AutoModelForTokenClassification.from_pretrained(other, num_labels=labels, ignore_mismatched_sizes=True)
    model.save_pretrained(other)
    with pytest.raises(AtomThinkError, match=rf"\b{labels}\b"):
        prm_head(str(other), device="cpu")


def test_a_checkpoint_without_the_head_is_refused() -> None:
    with pytest.raises(AtomThinkError, match=r"score\.bias"):
        prm_head(str(folder(causal_prm)), device="cpu")


def test_a_checkpoint_without_a_section_or_a_known_name_is_refused(tmp_path: FilePath) -> None:
    """A token classifier is no exception: its classes may have the other order, and its layout is unknown."""
    for unclear in (causal_prm, head_prm, llava):
        with pytest.raises(AtomThinkError, match="scorer=prm_token"):
            detect_prm(str(folder(unclear)))


def test_remote_code_is_not_run_unasked(tmp_path: FilePath) -> None:
    remote = copy(folder(head_prm), tmp_path / "prm")
    config = json.loads((remote / "config.json").read_text())
    (remote / "strange.py").write_text("raise SystemExit('it was run')")
    config |= {"model_type": "strange", "architectures": ["Qwen2ForProcessRewardModel"]}
    auto = {"AutoConfig": "strange.Config", "AutoModel": "strange.Model"}
    (remote / "config.json").write_text(json.dumps(config | {"auto_map": auto}))
    with pytest.raises(AtomThinkError, match="prm_profile=qwen2_5_math_prm"):
        detect_prm(str(remote))
    with pytest.raises(AtomThinkError, match="prm_trust_remote_code=True"):
        prm_head(str(remote), device="cpu")


def seeing_prm(folder: FilePath) -> FilePath:
    """Qwen3.5, the multimodal architecture that transformers has with a head on its tokens."""
    torch.manual_seed(1)
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
    words = tokenizer(
        [*names, "<|image_pad|>", "<|video_pad|>", "<extra_0>"],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens={
            "image_token": "<|image_pad|>",
            "video_token": "<|video_pad|>",
            "vision_start_token": "<|vision_start|>",
            "vision_end_token": "<|vision_end|>",
        },
    )
    config = Qwen3_5Config(
        text_config={
            "vocab_size": len(words),
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "layer_types": ["linear_attention", "full_attention"],
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "linear_key_head_dim": 16,
            "linear_value_head_dim": 16,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 2,
            "max_position_embeddings": 512,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e4,
                "mrope_section": [4, 2, 2],
                "mrope_interleaved": True,
                "partial_rotary_factor": 1.0,
            },
        },
        vision_config={
            "hidden_size": 64,
            "intermediate_size": 128,
            "depth": 2,
            "num_heads": 4,
            "patch_size": 14,
            "out_hidden_size": 64,
            "num_position_embeddings": 16,
        },
        image_token_id=5,
        video_token_id=6,
        vision_start_token_id=3,
        vision_end_token_id=4,
        num_labels=2,
    )
    model = Qwen3_5ForTokenClassification(config)
    for parameter in model.parameters():
        parameter.data.mul_(4 if parameter.dim() == 2 else 1)
    sizes = {"shortest_edge": 28 * 28, "longest_edge": 28 * 28 * 16}
    images = Qwen2VLImageProcessorPil(patch_size=14, size=sizes)
    processor = Qwen3VLProcessor(images, words, Qwen3VLVideoProcessor(patch_size=14), chat_template=QWEN_TEMPLATE)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def seeing(**arguments: Any) -> Any:
    return prm_head(str(folder(seeing_prm)), device="cpu", **arguments)


@pytest.mark.parametrize(("form", "name"), [(Continue(), None), (Atomic(), "atomic")])
def test_a_multimodal_head_is_read_with_the_images_at_the_last_separator(form: Format, name: str | None) -> None:
    model = AutoModelForTokenClassification.from_pretrained(folder(seeing_prm)).eval()
    processor = AutoProcessor.from_pretrained(folder(seeing_prm))
    for path, score in zip(PATHS, scores(seeing(format=name), PATHS), strict=True):
        parts = form.render(path.parent).messages[0].parts
        content = [{"type": "text", "text": part} if isinstance(part, str) else {"type": "image"} for part in parts]
        text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        images = [list(path.question.images)] if path.question.images else None
        inputs = dict(processor(text=[text], images=images, return_tensors="pt"))
        steps = path.steps if name is None else path.steps[-1:]
        reply = "".join(f"{step.text}\n\n<extra_0>" for step in steps)
        ids = [*inputs.pop("input_ids")[0].tolist(), *processor.tokenizer.encode(reply, add_special_tokens=False)]
        inputs.pop("attention_mask")
        if "mm_token_type_ids" in inputs:
            known = inputs["mm_token_type_ids"]
            inputs["mm_token_type_ids"] = torch.nn.functional.pad(known, (0, len(ids) - known.shape[1]))
        expected = torch.softmax(logits_of(model, ids, **inputs)[-1], 0)[1]
        assert score == pytest.approx(expected.item(), abs=1e-4)


def test_what_a_multimodal_head_sees_changes_its_score() -> None:
    asked = [question("How many?", picture(seed), name=str(seed)) for seed in (0, 7)]
    first, second = scores(seeing(), [chain(each, STEPS[0]) for each in asked])
    assert abs(first - second) > 1e-4


def test_scores_of_a_multimodal_head_do_not_depend_on_the_batch() -> None:
    alone = scores(seeing(batch_size=1), PATHS[::-1])[::-1]
    assert scores(seeing(batch_size=16), PATHS) == pytest.approx(alone, abs=1e-5)


def without_images(target: FilePath) -> str:
    """The multimodal architecture with its tokenizer alone, as a training on text leaves it."""
    target.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (target / name).write_bytes((folder(seeing_prm) / name).read_bytes())
    return str(target)


def test_a_multimodal_architecture_trained_on_text_is_read_as_text(tmp_path: FilePath) -> None:
    reading = prm_head(without_images(tmp_path / "prm"), device="cpu")
    assert [*reading.encode(PATHS[0]).encoding.media] == []
    assert 0 < scores(reading, PATHS[:1])[0] < 1


def test_there_is_one_warning_that_images_are_not_read(caplog: pytest.LogCaptureFixture) -> None:
    def warnings() -> int:
        return sum(record.name.endswith("scored_step") for record in caplog.records)

    scores(prm(), PATHS)
    assert warnings() == 1
    scores(prm(), [chain(TEXT, STEPS[0])])
    scores(seeing(), PATHS[:1])
    assert warnings() == 1


def test_a_format_that_means_nothing_or_is_not_installed_is_named() -> None:
    with pytest.raises(AtomThinkError, match="prm_format='atomic'"):
        prm(format="atomic")
    for name in ("sonnet", ""):
        with pytest.raises(AtomThinkError, match=f"prm_format='{name}'"):
            seeing(format=name)


@pytest.mark.parametrize("scorer", [prm, seeing])
def test_a_root_has_nothing_to_score(scorer: Any) -> None:
    with pytest.raises(ValueError, match="step"):
        scores(scorer(), [Path(ASKED)])


@pytest.mark.parametrize("scorer", [prm, seeing])
def test_a_chain_longer_than_the_context_is_an_error(scorer: Any) -> None:
    with pytest.raises(QuestionError, match="512"):
        scores(scorer(), [chain(TEXT, "Step 1: " + "one " * 600)])
