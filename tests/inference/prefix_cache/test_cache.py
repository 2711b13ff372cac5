"""The roomy cache holds what transformers' own holds, whatever is added and whichever rows are taken."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import DynamicCache

from atomthink_plugin.inference.prefix_cache.cache import KV_SLACK, RoomyLayer, roomy_cache

TOKENS = st.integers(1, KV_SLACK + 5)
TAKE = st.lists(st.integers(0, 1), min_size=2, max_size=2)


@given(st.lists(TOKENS | TAKE, min_size=1, max_size=8))
def test_it_equals_the_ordinary_cache(actions: list[int | list[int]]) -> None:
    torch.manual_seed(0)
    caches = roomy_cache(), DynamicCache()
    for layer in range(2):  # the beginning of what has room from the start
        keys, values = torch.randn(2, 2, 3, KV_SLACK, 4)
        filled = RoomyLayer()
        filled.fill(keys, values, 5)
        caches[0].layers.append(filled)
        caches[1].update(keys[:, :, :5], values[:, :, :5], layer)
    for action in actions:
        if isinstance(action, list):
            for cache in caches:
                cache.batch_select_indices(torch.tensor(action))
            continue
        for layer in range(2):
            keys, values = torch.randn(2, 2, 3, action, 4)
            returned = [cache.update(keys, values, layer) for cache in caches]
            assert all(torch.equal(ours, theirs) for ours, theirs in zip(*returned, strict=True))
    assert caches[0].get_seq_length() == caches[1].get_seq_length()
