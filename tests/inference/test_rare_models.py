"""Architectures with traits of their own share their caches, with the tokens of `generate`."""

from __future__ import annotations

from typing import Any

import pytest

from atomthink_plugin.api import Path, Sampling
from atomthink_plugin.formats.direct import Direct
from atomthink_plugin.model_adapters.transformers_policy import TransformersPolicy
from tests.model_adapters.test_transformers_policy import QUESTIONS
from tests.policy_prompts import ask
from tests.rare_models import exaone4_5, idefics2, kimi_k25, qianfan_ocr, qwen_omni
from tests.tiny_models import chain, loaded

PATHS = [*map(Path, QUESTIONS), chain(QUESTIONS[0], "Step 1: Compute 1 + 1 = 2.")]


def greedy(policy: TransformersPolicy) -> tuple[list[tuple[int, ...]], int]:
    """The tokens that a policy writes at each path, and how many images it reads for them."""
    replies = ask(policy, Direct(), PATHS, Sampling(max_tokens=6))
    return [reply.steps[0].token_ids for reply in replies], sum(reply.usage.images for reply in replies)


@pytest.mark.parametrize("build", [exaone4_5, idefics2, kimi_k25, qianfan_ocr, qwen_omni])
def test_their_caches_are_shared(build: Any) -> None:
    plain = TransformersPolicy(loaded(build), cache_gib=0, batch_size=1)
    policy = TransformersPolicy(loaded(build))
    policy.check()
    assert policy.decoding in ("slots", "forking")

    expected, _ = greedy(plain)
    assert greedy(policy) == (expected, 3)
    assert greedy(policy) == (expected, 0)
