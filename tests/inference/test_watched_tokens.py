"""The log-probabilities of watched tokens are the model's own, and those of servers are looked up by text."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

import pytest
import torch

from atomthink_plugin.api import AtomThinkError, Message, Prompt, Sampling, Step
from atomthink_plugin.inference.encoding import Encoder
from atomthink_plugin.inference.text_samples import watched_in
from atomthink_plugin.model_adapters.transformers_policy import TransformersPolicy
from tests.tiny_models import llava, loaded, picture


def prompt(text: str, begun: str) -> Prompt:
    return Prompt((Message("user", (picture(0), text)),), (begun,))


@pytest.mark.parametrize("cache_gib", [0, 1])
def test_each_sample_has_the_models_log_probabilities_of_its_own_words(cache_gib: float) -> None:
    checkpoint = loaded(llava)
    encoder = Encoder(checkpoint)
    policy = TransformersPolicy(checkpoint, cache_gib=cache_gib)
    asked = [
        (prompt("How many?", "Step"), ("4", "2")),
        (prompt("How many is two plus two?", "Step 1: Compute"), ("2",)),
        (prompt("What?", "So"), ()),
    ]
    sampled = asyncio.run(_together(policy, asked))
    for (question, words), step in zip(asked, sampled, strict=True):
        inputs = encoder.encode(question)
        with torch.inference_mode():
            logits = checkpoint.model(**inputs.tokens, **inputs.media).logits[0, -1]
        expected = torch.log_softmax(logits.float(), -1)[list(encoder.watched(words))]
        assert step.watched == pytest.approx(expected.tolist(), abs=1e-4)


async def _together(policy: TransformersPolicy, asked: Sequence[tuple[Prompt, tuple[str, ...]]]) -> list[Step]:
    asks = (policy.propose(one, 1, Sampling(max_tokens=3, watch=words)) for one, words in asked)
    return [proposal.steps[0] for proposal in await asyncio.gather(*asks)]


def test_a_listed_token_is_found_by_its_text_or_without_the_blank_before_it() -> None:
    listed = {" Yes": -0.1, "\u2581No": -3.0, "Maybe": -4.0}
    assert watched_in(listed, (" Yes", " No")) == (-0.1, -3.0)
    assert watched_in(listed, ("Yes", "No")) == (-0.1, -3.0)


def test_a_token_that_is_not_listed_counts_as_the_least_likely_listed_one() -> None:
    assert watched_in({"Yes": -0.1, "Maybe": -4.0}, ("Yes", "No")) == (-0.1, -4.0)


def test_nothing_is_known_if_none_of_the_tokens_is_listed() -> None:
    assert watched_in({"The": -0.1, "A": -math.inf}, ("Yes", "No")) == ()
    assert watched_in({}, ("Yes", "No")) == ()


def test_texts_that_begin_with_one_token_cannot_be_told_apart() -> None:
    encoder = Encoder(loaded(llava))
    first, second = encoder.watched(("4", "2"))
    assert first != second
    with pytest.raises(AtomThinkError, match="same token"):
        encoder.watched(("4", "4"))
