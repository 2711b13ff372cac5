"""The watched tokens of vLLM's outputs, from outputs as vLLM gives them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from atomthink_plugin.model_adapters.vllm_policy import _step


def output(first: dict[int, float]) -> Any:
    """An output of two tokens, with the log-probabilities of these ids at the first one."""
    found = [first, {7: -0.5}]
    positions = [{token: SimpleNamespace(logprob=value) for token, value in one.items()} for one in found]
    return SimpleNamespace(
        text="Yes it",
        token_ids=[3, 7],
        logprobs=positions,
        cumulative_logprob=-0.6,
        finish_reason="length",
        stop_reason=None,
    )


@pytest.mark.parametrize(
    ("watch", "watched"),
    [([3, 5], (-0.1, -4.0)), ([5, 3], (-4.0, -0.1)), ([3, 99], (-0.1, -6.0)), ([98, 99], ()), ([], ())],
)
def test_a_watched_token_is_found_by_its_id_at_the_first_position(watch: list[int], watched: tuple[float, ...]) -> None:
    step = _step(output({3: -0.1, 5: -4.0, 11: -6.0}), 0, watch)
    assert step.watched == watched
    assert step.token_ids == (3, 7)
    assert step.tops == ()
