"""Extents never overlap, and places that are given back make room for any other size."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atomthink_plugin.inference.slots.allocator import Allocator, Extent, PoolFullError, capacity_of

SIZE = 4096
STEPS = st.lists(st.one_of(st.integers(1, 900), st.integers(-30, -1)), max_size=80)
"""Numbers of tokens to allocate, and below 0 which extent to release."""


def overlaps(extents: Sequence[Extent]) -> bool:
    ordered = sorted(extents, key=lambda one: one.start)
    return any(one.start + one.capacity > later.start for one, later in pairwise(ordered))


@given(STEPS)
def test_extents_are_apart_and_what_is_released_is_whole_again(steps: list[int]) -> None:
    allocator, held = Allocator(SIZE), list[Extent]()
    for step in steps:
        if step < 0:
            if held:
                allocator.release(held.pop(step % len(held)))
            continue
        try:
            held.append(allocator.allocate(step))
        except PoolFullError:
            assert sum(one.capacity for one in held) > 0
        else:
            assert step <= held[-1].capacity
        assert not overlaps(held)
        assert all(0 <= one.start <= SIZE - one.capacity for one in held)
    for one in held:
        allocator.release(one)
    assert allocator.allocate(SIZE).start == 0


@given(st.integers(1, 100_000))
def test_few_places_of_an_extent_are_unused(tokens: int) -> None:
    assert tokens <= capacity_of(tokens) <= max(16, tokens * 1.25 + 64)


def test_an_extent_is_free_once_all_its_users_gave_it_back() -> None:
    allocator = Allocator(64)
    extent = allocator.allocate(64)
    extent.users += 1
    allocator.release(extent)
    with pytest.raises(PoolFullError):
        allocator.allocate(1)
    allocator.release(extent)
    assert allocator.allocate(64).start == 0


def test_a_pool_that_grows_joins_new_places_with_free_ones() -> None:
    allocator = Allocator(64)
    allocator.grow(128)
    assert allocator.allocate(128).capacity == 128
