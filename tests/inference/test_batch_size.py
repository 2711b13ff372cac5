"""`batch_size=auto` changes no sample, takes as many rows as memory holds, and is the default of every model."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch

from atomthink_plugin.api import AtomThinkError, Path, Sampling
from atomthink_plugin.config import plan
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.inference.batch_size import LEAST, MOST, cpu_rows, row_bytes, rows_that_fit, token_bytes
from atomthink_plugin.inference.encoding import text_encoding
from atomthink_plugin.model_adapters.lmms_models import AtomThinkModel
from atomthink_plugin.model_adapters.registered_policy import registered_policy
from atomthink_plugin.model_adapters.transformers_policy import TransformersPolicy, transformers_policy
from atomthink_plugin.plugins.registry import registry
from tests.model_adapters.test_out_of_memory import limited
from tests.model_adapters.test_transformers_policy import QUESTIONS, grow
from tests.policy_prompts import ask
from tests.scripted_base import register
from tests.tiny_models import causal_prm, folder, gemma3, llava, loaded, mllama, qwen

GIB = 2**30


@pytest.mark.parametrize("build", [llava, qwen, gemma3])
def test_a_tokens_bytes_are_those_of_a_real_cache(build: Any) -> None:
    model: Any = loaded(build).model
    inputs = text_encoding(range(10, 18)).tokens
    with torch.inference_mode():
        output = model(**inputs, use_cache=True)
    cache = getattr(output, "cache", None) or output.past_key_values
    held = sum(half.nbytes for layer in cache.layers for half in (layer.keys, layer.values))
    assert token_bytes(model.config, model.dtype.itemsize) == held / 8


@pytest.mark.parametrize("build", [llava, qwen, mllama, gemma3])
def test_a_row_takes_more_in_a_wider_precision(build: Any) -> None:
    config = loaded(build).model.config
    assert 0 < row_bytes(config, 2) < row_bytes(config, 4) < 2 * row_bytes(config, 2)


def test_rows_grow_with_the_free_memory_up_to_a_limit() -> None:
    row = GIB // 2
    counts = {free: rows_that_fit(free * GIB, 4 * GIB, row) for free in (0, 1, 8, 20, 40, 80, 10_000)}
    assert list(counts.values()) == [1, 1, 1, 12, 32, 72, MOST]
    # Half of it is left to another model, and the kept states take their part.
    assert all(counts[free] * row + 4 * GIB <= free * GIB / 2 for free in (20, 40, 80))


def test_samples_are_those_of_any_other_batch_size() -> None:
    paths = [Path(asked) for asked in QUESTIONS]
    expected, _ = grow(TransformersPolicy(loaded(llava), batch_size=3), Continue(), paths, 2)
    samples, _ = grow(TransformersPolicy(loaded(llava), batch_size="auto"), Continue(), paths, 2)
    assert samples == expected


def test_it_is_halved_where_memory_runs_out() -> None:
    paths = [Path(asked) for asked in QUESTIONS]
    policy = TransformersPolicy(loaded(llava), batch_size="auto")
    before = policy.max_rows
    with limited(loaded(llava).model, lambda rows, tokens: rows > 4) as refused:
        ask(policy, Continue(), paths, Sampling(1.0, max_tokens=6), 4)
    assert refused.reading + refused.decoding > 0
    assert policy.max_rows < 4 * len(paths) < before


def test_free_memory_is_asked_for_when_the_first_batch_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """The policy is loaded first: what it finds free then, the PRM takes a part of."""
    asked: list[str] = []
    monkeypatch.setattr("atomthink_plugin.inference.batch_size._measured", lambda *given: asked.append("now") or 5)
    policy = transformers_policy(str(folder(llava)), device="cpu")
    assert not asked
    ask(policy, Continue(), [Path(each) for each in QUESTIONS], Sampling(max_tokens=2))
    assert asked == ["now"]
    assert policy.max_rows == 5


def test_the_commands_option_goes_to_policy_and_prm() -> None:
    arguments: dict[str, Any] = {"pretrained": str(folder(llava)), "prm": str(folder(causal_prm)), "journal": "off"}
    made = AtomThinkModel(
        batch_size="auto", thinking="slow", scorer="prm_token", device="cpu", prm_device="cpu", **arguments
    )
    scorer: Any = made._runner.scorer
    policy: Any = made._runner.policy
    assert policy.max_rows == scorer._batcher.max_batch > 1


@pytest.mark.parametrize("name", ["batch_size", "prm_batch_size"])
@pytest.mark.parametrize("value", ["many", "0", "2.5"])
def test_another_word_is_refused_with_the_valid_ones(name: str, value: str) -> None:
    typed = {"pretrained": "ORG/MODEL", "prm": "ORG/PRM", "scorer": "prm_token", "thinking": "slow", name: value}
    with pytest.raises(AtomThinkError, match=f"`{name}={value}`.*auto"):
        plan("transformers", typed)


def test_models_of_lmms_eval_get_one_request_at_a_time() -> None:
    register()
    made: Any = registered_policy("scripted_chat", base_args={}, batch_size="auto")
    assert made.base.model.given["batch_size"] == 1
    assert made._size == 1


def test_every_policy_and_scorer_with_a_batch_size_has_auto_as_its_default() -> None:
    known = registry()
    arguments = [
        one
        for factory in (*known.policies.values(), *known.scorers.values())
        for one in inspect.signature(factory).parameters.values()
        if one.name == "batch_size"
    ]
    assert len(arguments) >= 7
    assert {one.default for one in arguments} == {"auto"}


def test_a_small_model_has_more_rows_on_a_cpu() -> None:
    counts = [cpu_rows(weights) for weights in (10**6, 4 * 10**7, 10**9, 7 * 10**9)]
    assert counts == [256, 100, LEAST, LEAST]
