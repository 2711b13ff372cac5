"""cuDNN's attention is off in every forward pass of a policy or a PRM, and as it was outside of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from atomthink_plugin.api import Path, Sampling
from atomthink_plugin.formats.direct import Direct
from atomthink_plugin.inference.forward_passes import without_cudnn_attention
from atomthink_plugin.model_adapters.transformers_policy import TransformersPolicy
from atomthink_plugin.scorers.prm_token import prm_token
from tests.model_adapters.test_transformers_policy import QUESTIONS
from tests.policy_prompts import ask
from tests.scorers.shared import PATHS, scores
from tests.tiny_models import causal_prm, folder, llava, loaded


@pytest.fixture(autouse=True, params=[True, False])
def chosen(request: Any) -> Iterator[bool]:
    """What the process had chosen before."""
    before = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(request.param)
    yield request.param
    torch.backends.cuda.enable_cudnn_sdp(before)


@contextmanager
def asked_inside(model: Any) -> Iterator[list[bool]]:
    """Whether cuDNN's attention was on, at each forward pass."""
    seen: list[bool] = []
    handle = model.register_forward_pre_hook(lambda *given: seen.append(torch.backends.cuda.cudnn_sdp_enabled()))
    try:
        yield seen
    finally:
        handle.remove()


@pytest.mark.parametrize("cache_gib", [4, 0])
def test_it_is_off_while_a_policy_generates(cache_gib: float, chosen: bool) -> None:
    policy = TransformersPolicy(loaded(llava), cache_gib=cache_gib)
    with asked_inside(loaded(llava).model) as seen:
        policy.check()
        ask(policy, Direct(), [Path(asked) for asked in QUESTIONS], Sampling(max_tokens=3))
    assert len(seen) > 3
    assert not any(seen)
    assert torch.backends.cuda.cudnn_sdp_enabled() == chosen


@pytest.mark.parametrize("cache_gib", [4, 0])
def test_it_is_off_while_a_prm_reads(cache_gib: float, chosen: bool) -> None:
    scorer = prm_token(str(folder(causal_prm)), device="cpu", cache_gib=cache_gib)
    with asked_inside(scorer._checkpoint.model) as seen:
        scorer.check()
        scores(scorer, PATHS)
    assert len(seen) > 1
    assert not any(seen)
    assert torch.backends.cuda.cudnn_sdp_enabled() == chosen


def test_a_policy_that_ends_does_not_switch_it_on_for_a_prm_that_still_reads(chosen: bool) -> None:
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with without_cudnn_attention():
            inside.set()
            leave.wait()

    thread = threading.Thread(target=other)
    thread.start()
    inside.wait()
    try:
        with without_cudnn_attention():
            pass
        assert not torch.backends.cuda.cudnn_sdp_enabled()
    finally:
        leave.set()
        thread.join()
    assert torch.backends.cuda.cudnn_sdp_enabled() == chosen


def test_an_error_inside_restores_it(chosen: bool) -> None:
    with pytest.raises(RuntimeError), without_cudnn_attention():
        raise RuntimeError
    assert torch.backends.cuda.cudnn_sdp_enabled() == chosen
