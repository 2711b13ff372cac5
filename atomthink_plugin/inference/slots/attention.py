"""Attention over shared and own tokens, given to transformers' models by `AttentionInterface`.

A query attends to the shared first tokens of its row and to its row's own tokens in two parts. The log-sum-exp of
each part's scores merges them into exact attention over both. Many rows share their first tokens, so that these are
read once for all of them.

Source: Juravsky et al., "Hydragen: High-Throughput LLM Inference with Shared Prefixes" (arXiv 2402.05099), section 3.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Protocol

import torch
from transformers import AttentionInterface
from transformers.cache_utils import Cache

from atomthink_plugin.inference.model_calls import CannotForkError
from atomthink_plugin.inference.slots.pool import KvPool

NAME: Final = "atomthink_slots"
"""Under which transformers knows this attention."""

_UNKNOWN: Final = ("softcap", "s_aux", "sliding_window", "position_bias")
"""Arguments of attention functions that would change the scores, and that are not supported here."""


class AttentionPlan(Protocol):
    """Where the queries of one forward pass find their keys and values.

    Attributes:
        places: `[tokens]`, int64: where the pool keeps the pass's new tokens.
    """

    places: torch.Tensor

    def attend(self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scale: float) -> torch.Tensor:
        """Returns `[tokens, query heads, value width]`.

        Args:
            queries: `[tokens, query heads, width]`, by the order of `places`.
            keys: One layer of the pool, `[places, heads, width]`, with the pass's own keys.
            values: The same for values.
            scale: Factor of the scores.
        """
        ...

    def advance(self) -> None:
        """Makes it the plan of the next forward pass if each row has read one token and reads one more."""
        ...


class _Current(threading.local):
    """The forward pass of this thread: a policy and a PRM run in threads of their own."""

    pool: KvPool | None = None
    plan: AttentionPlan | None = None
    layers: int = 0


_current: Final = _Current()


class PassThroughCache(Cache):
    """A cache that keeps nothing: the attention function writes into the pool."""

    def __init__(self) -> None:
        self.layers = []

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the new states as they are."""
        return key_states, value_states

    def get_seq_length(self, *args: Any, **kwargs: Any) -> int:
        """Returns 0: positions are always given."""
        return 0


@contextmanager
def slot_attention(config: Any, pool: KvPool, plan: AttentionPlan) -> Iterator[None]:
    """A context in which a model attends through `plan`.

    Args:
        config: The config of the model's language model.
        pool: Where keys and values are.
        plan: Of the forward pass that runs inside.

    Raises:
        CannotForkError: Not every layer of the model attended by this function.
    """
    before = config._attn_implementation
    config._attn_implementation = NAME
    _current.pool, _current.plan, _current.layers = pool, plan, 0
    try:
        yield
    finally:
        config._attn_implementation = before
        _current.pool = _current.plan = None
    if _current.layers != pool.shape.layers:
        raise CannotForkError(
            f"{_current.layers} of its {pool.shape.layers} layers use transformers' attention interface"
        )


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention function of transformers; see `AttentionInterface`.

    Args:
        module: The attention layer.
        query: `[1, query heads, tokens, width]`.
        key: `[1, heads, tokens, width]`.
        value: `[1, heads, tokens, width]`.
        attention_mask: Not supported; transformers makes none for this function.
        scaling: Factor of the scores.
        **kwargs: Further arguments; some are not supported.

    Raises:
        CannotForkError: The layer asks for something that is not supported.
    """
    pool, plan = _current.pool, _current.plan
    if pool is None or plan is None:
        raise CannotForkError(f"the attention {NAME} works only inside the slots engine")
    unknown = [name for name in _UNKNOWN if kwargs.get(name) is not None]
    if attention_mask is not None or unknown:
        raise CannotForkError(f"its attention has {', '.join(unknown) or 'a mask of its own'}")
    if (key.shape[1], key.shape[3], value.shape[3]) != (pool.shape.heads, pool.shape.key_width, pool.shape.value_width):
        raise CannotForkError("its attention reads other keys and values than its cache keeps")
    layer = module.layer_idx
    _current.layers += 1
    pool.keys[layer].index_copy_(0, plan.places, key[0].transpose(0, 1))
    pool.values[layer].index_copy_(0, plan.places, value[0].transpose(0, 1))
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    out = plan.attend(query[0].transpose(0, 1), pool.keys[layer], pool.values[layer], scale)
    return out[None], None


def merged(shared: tuple[torch.Tensor, torch.Tensor], own: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Returns attention over both parts.

    Args:
        shared: Attention over the shared tokens, `[tokens, heads, width]`, and the log-sum-exp of its scores,
            `[tokens, heads]`.
        own: The same over a row's own tokens.
    """
    weight = torch.sigmoid(shared[1] - own[1])[..., None].to(own[0].dtype)
    return torch.lerp(own[0], shared[0], weight)


AttentionInterface.register(NAME, attend)
