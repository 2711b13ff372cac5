"""The seeds that samples have in vLLM."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from atomthink_plugin.api import Sampling
from atomthink_plugin.model_adapters.vllm_policy import vllm_seed

NODE = Sampling(temperature=1.0, seed=3, key="question\0node")


def test_a_sample_has_the_same_seed_whatever_it_is_asked_with() -> None:
    assert [vllm_seed(NODE, index) for index in range(3, 6)] == [vllm_seed(replace(NODE, first=3), i) for i in range(3)]


def test_the_seeds_of_a_node_follow_one_another() -> None:
    first = vllm_seed(NODE, 0)
    assert [vllm_seed(NODE, index) for index in range(6)] == [first + index for index in range(6)]


def test_nodes_uses_retries_and_runs_have_far_seeds() -> None:
    others = [replace(NODE, key="other"), replace(NODE, use="judge"), replace(NODE, attempt=1), replace(NODE, seed=4)]
    firsts = sorted(vllm_seed(one, 0) for one in (NODE, *others))
    assert all(second - first > 2**32 for first, second in pairwise(firsts))
    assert all(0 <= first < 2**63 for first in firsts)
