"""A KV cache with spare capacity: that of transformers copies all keys and values for every new token."""

from __future__ import annotations

from typing import Any, Final

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

KV_SLACK: Final = 32
"""Tokens of spare capacity that a full layer gets at least; an eighth of its length if that is more."""


class RoomyLayer(DynamicLayer):
    """Keys and values at the beginning of larger tensors; `keys` and `values` are the filled part."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._space: tuple[torch.Tensor, torch.Tensor] | None = None

    def fill(self, keys: torch.Tensor, values: torch.Tensor, length: int) -> None:
        """Starts with the first `length` tokens of `[rows, heads, tokens, width]`; the rest is spare capacity."""
        self.lazy_initialization(keys, values)
        self._space = keys, values
        self.keys, self.values = keys[:, :, :length], values[:, :, :length]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Adds the states of new tokens, `[rows, heads, tokens, width]`, and returns all of them."""
        if not self.is_initialized or self.keys is None or self.values is None:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = key_states, value_states
            return key_states, value_states
        length, end = self.keys.shape[-2], self.keys.shape[-2] + key_states.shape[-2]
        if self._space is None or self._space[0].shape[-2] < end:
            self._space = _roomy(self.keys, with_room(end)), _roomy(self.values, with_room(end))
        for space, states in zip(self._space, (key_states, value_states), strict=True):
            space[:, :, length:end] = states
        keys, values = (space[:, :, :end] for space in self._space)
        self.keys, self.values = keys, values
        return keys, values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keeps, repeats or reorders rows together with their spare capacity."""
        if self._space is None or self.keys is None:
            super().batch_select_indices(indices)
            return
        length = self.keys.shape[-2]
        keys, values = (half.index_select(0, indices) for half in self._space)
        self._space = keys, values
        self.keys, self.values = keys[:, :, :length], values[:, :, :length]


def with_room(tokens: int) -> int:
    """Returns the capacity of a layer that holds `tokens` tokens."""
    return tokens + max(KV_SLACK, tokens // 8)


def _roomy(states: torch.Tensor, tokens: int) -> torch.Tensor:
    """Returns a copy of the states with a capacity of `tokens` tokens."""
    space = states.new_empty(*states.shape[:2], tokens, states.shape[3])
    space[:, :, : states.shape[2]] = states
    return space


def roomy_cache() -> DynamicCache:
    """Returns an empty cache of such layers."""
    cache = DynamicCache()
    cache.layer_class_to_replicate = RoomyLayer
    return cache
