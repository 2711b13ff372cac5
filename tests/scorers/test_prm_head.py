"""A head PRM gives what its classifier gives at the last separator."""

from __future__ import annotations

import json
from pathlib import Path as FilePath
from typing import Any

import pytest
import torch
from transformers import AutoModelForTokenClassification, AutoTokenizer

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.scorers.detect import detect_kind
from atomthink_plugin.scorers.prm_head import SYSTEM, prm_head
from tests.scorers.scoring import ASKED, PATHS, STEPS, copy, logits_of, scores
from tests.tiny_models import causal_prm, chain, folder, head_prm, llava


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
    with pytest.raises(AtomThinkError, match=f"has {labels} classes"):
        prm_head(str(other), device="cpu")


def test_a_checkpoint_without_the_head_is_refused() -> None:
    with pytest.raises(AtomThinkError, match=r"has no weights for score\.bias"):
        prm_head(str(folder(causal_prm)), device="cpu")


def test_kinds_are_read_from_the_architecture() -> None:
    assert detect_kind(str(folder(head_prm))) == "prm_head"
    for unclear in (causal_prm, llava):
        with pytest.raises(AtomThinkError, match="scorer=prm_token"):
            detect_kind(str(folder(unclear)))


def test_remote_code_is_not_run_unasked(tmp_path: FilePath) -> None:
    remote = copy(folder(head_prm), tmp_path / "prm")
    config = json.loads((remote / "config.json").read_text())
    (remote / "strange.py").write_text("raise SystemExit('it was run')")
    config |= {"model_type": "strange", "architectures": ["Qwen2ForProcessRewardModel"]}
    auto = {"AutoConfig": "strange.Config", "AutoModel": "strange.Model"}
    (remote / "config.json").write_text(json.dumps(config | {"auto_map": auto}))
    assert detect_kind(str(remote)) == "prm_head"
    with pytest.raises(AtomThinkError, match="prm_trust_remote_code=True"):
        prm_head(str(remote), device="cpu")
