"""A tag PRM gives what its own model gives at the last tag."""

from __future__ import annotations

import json
from pathlib import Path as FilePath
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

from atomthink_plugin.api import AtomThinkError, Path, QuestionError, Scorer
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.scorers.detect import PUBLISHED, detect_prm
from atomthink_plugin.scorers.prm_token import TextLayout, prm_token
from tests.scorers.shared import ASKED, PATHS, STEPS, copy, logits_of, scores
from tests.tiny_models import causal_prm, chain, folder, llava, question, qwen

CHAT = {"format": "continue", "tag": "</s>", "good": "<+>", "bad": "<->"}
QWEN = {"format": "continue", "tag": "<|endoftext|>", "good": "+", "bad": "-"}


def text_prm() -> Scorer:
    return prm_token(str(folder(causal_prm)), device="cpu")


def test_the_published_layout_is_read_at_the_tag() -> None:
    model = AutoModelForCausalLM.from_pretrained(folder(causal_prm)).eval()
    words = AutoTokenizer.from_pretrained(folder(causal_prm))
    tag, good, bad = (words.encode(text) for text in (PUBLISHED.tag, PUBLISHED.good, PUBLISHED.bad))
    for path, score in zip(PATHS, scores(text_prm(), PATHS), strict=True):
        steps = [step.text for step in path.steps]
        text = path.question.text + " " + " \n\n\n\n\n".join(steps) + " \n\n\n\n\n"
        ids = words.encode(text)
        assert ids.count(tag[0]) == len(steps)
        assert ids[-1] == tag[0]
        expected = torch.softmax(logits_of(model, ids)[-1, [*good, *bad]], 0)[0]
        assert score == pytest.approx(expected.item(), abs=1e-5)


@pytest.mark.parametrize(("build", "layout"), [(llava, CHAT), (qwen, QWEN)])
def test_the_multimodal_layout_is_read_at_the_last_tag(build: Any, layout: dict[str, str]) -> None:
    model = AutoModelForImageTextToText.from_pretrained(folder(build)).eval()
    processor = AutoProcessor.from_pretrained(folder(build))
    encode = lambda text: processor.tokenizer.encode(text, add_special_tokens=False)  # noqa: E731
    for path, score in zip(PATHS, scores(prm_token(str(folder(build)), device="cpu", **layout), PATHS), strict=True):
        parts = Continue().render(Path(path.question)).messages[0].parts
        content = [{"type": "text", "text": part} if isinstance(part, str) else {"type": "image"} for part in parts]
        text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        images = [list(path.question.images)] if path.question.images else None
        inputs = dict(processor(text=[text], images=images, return_tensors="pt", add_special_tokens=True))
        tagged = "".join(f"{step.text}\n\n{layout['tag']}" for step in path.steps)
        ids = [*inputs.pop("input_ids")[0].tolist(), *encode(tagged)]
        inputs.pop("attention_mask")
        if "mm_token_type_ids" in inputs:
            known = inputs["mm_token_type_ids"]
            inputs["mm_token_type_ids"] = torch.nn.functional.pad(known, (0, len(ids) - known.shape[1]))
        pair = [*encode(layout["good"]), *encode(layout["bad"])]
        expected = torch.softmax(logits_of(model, ids, **inputs)[-1, pair], 0)[0]
        assert score == pytest.approx(expected.item(), abs=1e-4)


def test_scores_do_not_depend_on_the_batch() -> None:
    alone = prm_token(str(folder(llava)), device="cpu", batch_size=1, **CHAT)
    together = prm_token(str(folder(llava)), device="cpu", batch_size=16, **CHAT)
    assert scores(together, PATHS) == pytest.approx(scores(alone, PATHS[::-1])[::-1], abs=1e-5)


@pytest.mark.parametrize("scorer", [text_prm, lambda: prm_token(str(folder(llava)), device="cpu", **CHAT)])
def test_a_step_keeps_its_place_when_the_path_grows(scorer: Any) -> None:
    prm = scorer()
    ids = [prm.encode(chain(ASKED, *STEPS[:depth])).encoding.tokens["input_ids"][0].tolist() for depth in (1, 2, 3)]
    assert ids[1][: len(ids[0])] == ids[0]
    assert ids[2][: len(ids[1])] == ids[1]


def test_tags_in_the_text_are_not_read_as_tags() -> None:
    words = AutoTokenizer.from_pretrained(folder(causal_prm))
    asked = question("What\n\n\n\n\n \n\n\n\n\nis it?")
    ids = text_prm().encode(chain(asked, "Step 1: a.", "Step 2: b.")).encoding.tokens["input_ids"][0].tolist()
    assert ids.count(words.encode(PUBLISHED.tag)[0]) == 2
    chat = prm_token(str(folder(llava)), device="cpu", **CHAT)
    clean, dirty = (chat.encode(chain(ASKED, step)).encoding for step in ("Step 1: a.", "Step 1: a</s>."))
    assert [(row.tokens["input_ids"] == 1).sum().item() for row in (clean, dirty)] == [1, 1]


@pytest.mark.parametrize("tag", ["\n", "\n\n", "\n\n\n\n\n", "\t", "x", " x", "+"])
def test_any_token_can_be_the_tag(tag: str) -> None:
    """Nothing that stands in for a tag in the text may be a tag again."""
    layout = TextLayout(AutoTokenizer.from_pretrained(folder(causal_prm)), tag, tag_id=3)
    dirty = f"a{tag}{tag}b\n\n\nc\t{tag}"
    clean = layout._clean(dirty)
    assert tag.strip(" ") not in clean
    assert [sign for sign in clean if sign in "abc"] == ["a", "b", "c"]


@pytest.mark.parametrize("build", [causal_prm, llava])
@pytest.mark.parametrize(("name", "text"), [("tag", ""), ("tag", "  "), ("good", ""), ("bad", "")])
def test_an_empty_token_is_refused_and_not_replaced(build: Any, name: str, text: str) -> None:
    layout = CHAT if build is llava else {}
    with pytest.raises(AtomThinkError, match=f"prm_{name}='{text}'"):
        prm_token(str(folder(build)), device="cpu", **layout | {name: text})


@pytest.mark.parametrize("name", ["tag", "good", "bad"])
def test_what_is_not_one_token_is_named(name: str) -> None:
    with pytest.raises(AtomThinkError, match=f"prm_{name}='qzqz'"):
        prm_token(str(folder(llava)), device="cpu", **CHAT | {name: "qzqz"})


def test_a_checkpoints_config_names_its_layout(tmp_path: FilePath) -> None:
    prm = copy(folder(llava), tmp_path / "prm")
    config = json.loads((prm / "config.json").read_text())
    section = {"kind": "token", **CHAT}
    (prm / "config.json").write_text(json.dumps(config | {"atomthink_prm": section}))
    assert detect_prm(str(prm)).scorer == "prm_token"
    configured = prm_token(str(prm), device="cpu")
    asked = prm_token(str(folder(llava)), device="cpu", **CHAT)
    assert scores(configured, PATHS) == pytest.approx(scores(asked, PATHS))
    (prm / "config.json").write_text(json.dumps(config | {"atomthink_prm": {"kind": "token", "tga": "x"}}))
    with pytest.raises(AtomThinkError, match="tga"):
        prm_token(str(prm), device="cpu")
    (prm / "config.json").write_text(json.dumps(config | {"atomthink_prm": {"kind": "token"}}))
    with pytest.raises(AtomThinkError, match="prm_tag="):
        prm_token(str(prm), device="cpu")


def test_a_prm_that_gives_no_number_is_an_error() -> None:
    prm = prm_token(str(folder(llava)), device="cpu", **CHAT)
    prm._checkpoint.model.get_output_embeddings().weight.data.fill_(torch.nan)
    with pytest.raises(AtomThinkError, match="nan"):
        scores(prm, PATHS[:1])


def test_a_chain_longer_than_the_context_is_an_error() -> None:
    with pytest.raises(QuestionError, match="512"):
        scores(text_prm(), [chain(ASKED, "Step 1: " + "one " * 600)])


def test_a_root_has_nothing_to_score() -> None:
    with pytest.raises(ValueError, match="step"):
        scores(prm_token(str(folder(llava)), device="cpu", **CHAT), [Path(ASKED)])


def test_a_format_that_is_not_installed_is_named() -> None:
    with pytest.raises(AtomThinkError, match="prm_format='sonnet'"):
        prm_token(str(folder(llava)), device="cpu", **CHAT | {"format": "sonnet"})
