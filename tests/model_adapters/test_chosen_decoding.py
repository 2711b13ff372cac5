"""Whichever way of decoding a policy's trial chooses for a model, its samples are those of plain prefill."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from atomthink_plugin.model_adapters.transformers_policy import TransformersPolicy
from tests.inference.slots.test_admission import expected, requests_to, result_of
from tests.tiny_families import FALLBACKS, SLOTS, Build, checkpoint, encoder

CHOSEN = {**dict.fromkeys(SLOTS, "slots"), **FALLBACKS}
FORKED = [build for build, decoding in FALLBACKS.items() if decoding == "forking"]


@pytest.mark.parametrize(
    ("build", "cache_gib"), [*((build, 4) for build in CHOSEN), *((build, 1e-6) for build in FORKED)]
)
def test_samples_are_those_of_plain_prefill(build: Build, cache_gib: float) -> None:
    policy = TransformersPolicy(checkpoint(build), cache_gib=cache_gib, encoder=encoder(build))
    policy.check()
    assert policy.decoding == CHOSEN[build]

    async def replies(part: slice) -> list[Any]:
        return await asyncio.gather(*(policy._reply(one, 0) for one in requests_to(build)[part]))

    for part in (slice(5), slice(None)):  # in little company, then in more, with what was kept
        assert [result_of(one) for one in asyncio.run(replies(part))] == expected(build)[part]
