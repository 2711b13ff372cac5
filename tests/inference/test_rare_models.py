"""Architectures with traits of their own share their caches, with the tokens of `generate`."""

from __future__ import annotations

from typing import Any

import pytest

from atomthink_plugin.api import Path
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.formats.direct import Direct
from atomthink_plugin.inference.checkpoints import Checkpoint
from atomthink_plugin.inference.decoding import GenerationRequest, PrefillDecoder
from atomthink_plugin.inference.encoding import Encoder, Encoding
from atomthink_plugin.inference.forward_passes import forward_passes
from atomthink_plugin.inference.sampling import Draw
from atomthink_plugin.model_adapters.transformers_policy import TransformersPolicy
from tests.model_adapters.test_transformers_policy import QUESTIONS
from tests.rare_models import exaone4_5, idefics2, kimi_k25, qianfan_ocr, qwen_omni
from tests.tiny_models import chain, loaded


def prompts(checkpoint: Checkpoint) -> list[Encoding]:
    """Questions with an image and without, and steps after the first."""
    encoder = Encoder(checkpoint)
    asked = [encoder.encode(Direct().render(Path(question))) for question in QUESTIONS]
    return [*asked, encoder.encode(Continue().render(chain(QUESTIONS[0], "Step 1: Compute 1 + 1 = 2.")))]


@pytest.mark.parametrize("build", [exaone4_5, idefics2, kimi_k25, qianfan_ocr, qwen_omni])
def test_their_caches_are_shared(build: Any) -> None:
    checkpoint = loaded(build)
    policy = TransformersPolicy(checkpoint)
    policy.check()
    assert policy.decoding in ("slots", "forking")

    rows = [GenerationRequest(prompt, Draw(seed=0, max_tokens=6)) for prompt in prompts(checkpoint)]
    with forward_passes(checkpoint):
        plain = [PrefillDecoder(checkpoint).generate([row])[0].completion.token_ids for row in rows]
    assert [reply.completion.token_ids for reply in policy._generate(rows)] == plain
    again = policy._generate(rows)
    assert [reply.completion.token_ids for reply in again] == plain
    assert sum(reply.images for reply in again) == 0
