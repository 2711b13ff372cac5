"""What a policy and a process reward model report of their work agrees with what they bill."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from atomthink_plugin.api import Path, Sampling, Usage
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.inference.prefix_cache.reader import CACHE_GIB
from atomthink_plugin.model_adapters.transformers_policy import TransformersPolicy
from atomthink_plugin.scorers.prm_likelihood import prm_likelihood
from tests.policy_prompts import ask
from tests.scorers.shared import ASKED, OTHER, PATHS
from tests.tiny_models import folder, llava, loaded


@pytest.mark.parametrize("cache_gib", [CACHE_GIB, 0], ids=["forked caches", "full prefill"])
def test_the_tokens_of_a_policys_forward_passes_are_those_of_its_usage(cache_gib: float) -> None:
    policy = TransformersPolicy(loaded(llava), batch_size=16, cache_gib=cache_gib)
    policy.check()
    before = policy.clock.work()
    proposals = ask(policy, Continue(), [Path(ASKED), Path(OTHER)], Sampling(1.0, max_tokens=6), 3)
    usage = sum((proposal.usage for proposal in proposals), Usage())
    phases = policy.clock.work().since(before).phases

    assert phases["prefill"].tokens == usage.prefilled
    assert phases["decode"].tokens == usage.generated - usage.policy_calls  # the first of each comes from the prefill
    decoded = phases["decode"].passes
    assert max(decoded) <= 6
    assert sum(rows * count for rows, count in decoded.items()) >= phases["decode"].tokens
    assert sum(decoded.values()) == max(len(step.token_ids) for one in proposals for step in one.steps) - 1
    assert all(phases[name].seconds > 0 for name in ("encode", "prefill", "decode", "sample", "ends"))


@pytest.mark.parametrize("cache_gib", [CACHE_GIB, 0], ids=["from the cache", "in full"])
def test_the_tokens_of_a_prms_forward_passes_are_those_of_its_usage(cache_gib: float) -> None:
    scorer: Any = prm_likelihood(str(folder(llava)), scale=0.02, bias=1.5, device="cpu", cache_gib=cache_gib)

    async def judge(paths: list[Path]) -> list[Any]:
        return await asyncio.gather(*map(scorer.score, paths))

    asyncio.run(judge([PATHS[0], PATHS[-1]]))  # the first question of each kind is also read in a trial
    before = scorer.clock.work()
    usage = sum((score.usage for score in asyncio.run(judge(PATHS))), Usage())
    phases = scorer.clock.work().since(before).phases
    assert phases["prefill"].tokens == usage.prefilled
    assert phases["score"].seconds > 0
    assert "decode" not in phases
