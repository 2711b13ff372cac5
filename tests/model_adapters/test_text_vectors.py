"""Vectors of texts are the mean last hidden states of the loaded model, alone and in company."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.config import plan
from atomthink_plugin.model_adapters.transformers_policy import transformers_policy
from atomthink_plugin.plugins.registry import registry
from atomthink_plugin.runtime.build import build
from atomthink_plugin.testing import ScriptedPolicy
from tests.examples.example_files import record, solved, write_examples
from tests.tiny_models import folder, gemma3, llava, llava_next, mllama, qwen

TEXTS = ["How many?", "What is two plus two plus two plus one? " * 8, "Add red.", "How many?"]


@pytest.mark.parametrize("make", [llava, llava_next, qwen, mllama, gemma3])
def test_vectors_are_the_mean_of_the_last_hidden_states_in_every_batch(make: Any) -> None:
    policy = transformers_policy(str(folder(make)), device="cpu")
    together = asyncio.run(policy.embed(TEXTS))
    tokenizer = AutoProcessor.from_pretrained(folder(make)).tokenizer
    model: Any = AutoModelForImageTextToText.from_pretrained(folder(make)).eval()
    for text, vector in zip(TEXTS, together, strict=True):
        with torch.no_grad():
            states = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True).hidden_states[-1]
        torch.testing.assert_close(torch.tensor(vector), states[0].mean(dim=0), atol=1e-4, rtol=1e-4)
        (alone,) = asyncio.run(policy.embed([text]))
        torch.testing.assert_close(torch.tensor(vector), torch.tensor(alone), atol=1e-5, rtol=1e-5)


def test_a_text_longer_than_the_context_is_cut_to_it() -> None:
    policy = transformers_policy(str(folder(llava)), device="cpu")
    context = policy._checkpoint.context
    assert context is not None
    assert policy._encoder.text("two " * 2 * context).length == context
    ((first, *_),) = asyncio.run(policy.embed(["two " * 2 * context]))
    assert first == first  # not NaN


def test_a_run_whose_policy_cannot_embed_ends_before_the_first_question(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scripted(pretrained: str) -> ScriptedPolicy:
        return ScriptedPolicy({})

    monkeypatch.setattr(
        "atomthink_plugin.config.registry", lambda: replace(registry(), policies={"scripted": scripted})
    )
    file = write_examples(tmp_path / "examples.jsonl", [record(solved("Add red."), "a")])
    typed = {"pretrained": "x", "format": "few_shot", "format_examples": str(file)}
    with pytest.raises(AtomThinkError, match="format_nearest=tfidf"):
        build(plan("scripted", {**typed, "format_nearest": "policy"}))
    build(plan("scripted", typed))
