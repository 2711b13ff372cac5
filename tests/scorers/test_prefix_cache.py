"""A PRM that reads only what is new gives the scores of one that reads every path in full."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from atomthink_plugin.api import Path, Usage
from atomthink_plugin.scorers.batched import BatchedScorer
from atomthink_plugin.scorers.prm_head import prm_head
from atomthink_plugin.scorers.prm_likelihood import prm_likelihood
from atomthink_plugin.scorers.prm_token import prm_token
from tests.scorers.shared import FINAL, PATHS
from tests.tiny_models import causal_prm, folder, head_prm, llava, qwen

pytestmark = pytest.mark.slow


TAGGED = {"format": "continue", "tag": "</s>", "good": "<+>", "bad": "<->"}
KINDS: list[Any] = [
    pytest.param(prm_likelihood, llava, {"scale": 0.02, "bias": 1.5}, id="likelihood-llava"),
    pytest.param(prm_likelihood, qwen, {"scale": 0.02, "bias": 1.5}, id="likelihood-qwen"),
    pytest.param(prm_token, llava, TAGGED, id="token-llava"),
    pytest.param(prm_token, causal_prm, {}, id="token-text"),
    pytest.param(prm_head, head_prm, {}, id="head-text"),
]


def judge(scorer: BatchedScorer, paths: list[Path]) -> tuple[list[float], Usage]:
    """Scores level by level, as a search does; returns scores in the paths' order and what it took."""

    async def levels() -> dict[tuple[str, str], Any]:
        found = {}
        for depth in sorted({path.depth for path in paths}):
            level = [path for path in paths if path.depth == depth]
            for path, score in zip(level, await asyncio.gather(*map(scorer.score, level)), strict=True):
                found[path.question.id, path.key] = score
        return found

    found = asyncio.run(levels())
    return [found[path.question.id, path.key].value for path in paths], sum(
        (score.usage for score in found.values()), Usage()
    )


@pytest.mark.parametrize(("make", "build", "arguments"), KINDS)
@pytest.mark.parametrize("batch_size", [1, 16])
def test_cached_scores_equal_a_full_prefill_and_cost_the_new_step_alone(
    make: Any, build: Any, arguments: dict[str, Any], batch_size: int
) -> None:
    paths, given = [*PATHS, FINAL], {"device": "cpu", "batch_size": batch_size} | arguments
    expected, before = judge(make(str(folder(build)), cache_gib=0, **given), paths)
    scores, after = judge(make(str(folder(build)), **given), paths)
    assert scores == pytest.approx(expected, abs=1e-5)
    assert after.prefilled + after.cached == before.prefilled
    assert after.prefilled < 0.6 * before.prefilled
    assert after.images == (2 if before.images else 0)


def test_what_was_forgotten_is_read_again() -> None:
    arguments: dict[str, Any] = {"device": "cpu", "scale": 0.02, "bias": 1.5}
    forgetful = prm_likelihood(str(folder(llava)), cache_gib=1e-6, **arguments)
    expected, _ = judge(prm_likelihood(str(folder(llava)), cache_gib=0, **arguments), PATHS)
    scores, usage = judge(forgetful, PATHS)
    assert scores == pytest.approx(expected, abs=1e-5)
    assert usage.images > 2
